"""A strip of paper that a shop's printer prints on, and how its ink fades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from ocr.data.synthetic import fonts, words
from ocr.data.synthetic.layout import MARGIN_EMS, Cell

MIN_GAP = 1.0  # between texts of a row, in heights of the type
MAX_HEIGHT = 3000  # pixels of paper


@dataclass(frozen=True)
class ShopStyle:
    """Fonts and alphabets that receipts are drawn with.

    Attributes:
        print_fonts: files of fonts for print; None in the tuple is Pillow's own.
        hand_fonts: files of fonts for handwriting, may be none.
        alphabets: keys of :data:`ocr.data.synthetic.words.SYLLABLES`.
    """

    print_fonts: tuple[str | None, ...]
    hand_fonts: tuple[str, ...] = ()
    alphabets: tuple[str, ...] = ("latin",)


class Paper:
    """A strip of paper with a pen position; ``pixels`` uint8 (:data:`MAX_HEIGHT`, width), 255 is blank."""

    def __init__(self, rng: np.random.Generator, style: ShopStyle) -> None:
        self.rng, self.style = rng, style
        self.size = int(rng.integers(14, 30))
        self.path = _a_font(rng, style.print_fonts)
        self.second = _a_font(rng, style.print_fonts)
        able = [a for a in style.alphabets if fonts.has_letter(self.path, words.PROBES[a])]
        self.alphabet = able[rng.integers(len(able))] if able else "latin"
        advance = fonts.load(self.path, self.size).getlength("n")
        self.left = int(rng.integers(4, 40))
        self.right = self.left + round(min(max(rng.integers(26, 50) * advance, 260), 900))
        self.width = self.right + self.left
        self.leading = float(rng.uniform(1.1, 1.7))
        self.ink = int(rng.integers(0, 90))
        self.gap = float(np.exp(rng.uniform(np.log(MIN_GAP), np.log(3.0))))  # the least between columns, heights
        self.dots = int(rng.integers(2, 4)) if rng.random() < 0.15 and self.size >= 20 else 0
        self.pixels = np.full((MAX_HEIGHT, self.width), 255, np.uint8)
        self.y = float(rng.integers(4, 50))
        self.cells: list[Cell] = []

    def height(self, factor: float = 1.0) -> int:
        """Pixels of the type."""
        return max(9, round(self.size * factor))

    def phrase(self, least: int = 1, most: int = 4) -> str:
        return words.phrase(self.rng, self.alphabet, least, most)

    def glyphs(self, text: str, factor: float, tall: float, path: str | None) -> np.ndarray:
        """Coverage uint8 (h, w) of a text's ink; of no size where nothing is drawn."""
        mask = fonts.load(path, self.height(factor)).getmask(text, mode="L")
        ink = np.asarray(Image.frombytes("L", mask.size, bytes(mask)))
        if not ink.any():
            return np.zeros((0, 0), np.uint8)
        rows, columns = (np.flatnonzero(ink.any(axis=k)) for k in (1, 0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cv2.resize(ink, (ink.shape[1], round(ink.shape[0] * tall))) if tall != 1 else ink

    def put(
        self, text: str, x: float, anchor: str = "l", factor: float = 1.0, tall: float = 1.0, inverse: bool = False,
        path: str | None = "", limits: tuple[float, float] | None = None,
    ) -> float:  # fmt: skip
        """Print a cell on the current line, cut to its limits.

        Args:
            x: pixels, of the side that ``anchor`` (l, m, r) names.
            factor: on the size of the type.
            tall: factor on the height alone.
            inverse: white on a black bar.
            path: of the font; empty: the receipt's own.
            limits: the x that the ink must stay between; None: the margins.

        Returns:
            The right end of its ink, x where nothing fits.
        """
        path = self.path if path == "" else path
        low, high = limits or (self.left, self.right)
        room = high - low
        ink = self.glyphs(text, factor, tall, path)
        while text and ink.shape[1] > room:
            text = text[: max(1, int(len(text) * room / ink.shape[1])) - 1].rstrip()
            ink = self.glyphs(text, factor, tall, path) if text else np.zeros((0, 0), np.uint8)
        h, w = ink.shape
        left = round(min(max(x - {"l": 0, "m": w / 2, "r": w}[anchor], low), high - w))
        rise = fonts.load(path, self.height(factor)).getbbox(text or "x")[1]  # of the ink below the line's top
        top = round(self.y + rise * tall)
        pad = max(1, round(self.height(factor) * MARGIN_EMS))
        if not h or top < 0 or left < 0 or top + h + pad > MAX_HEIGHT or left + w > self.width:
            return x
        box = np.s_[top : top + h, left : left + w]
        paint = np.uint8(self.ink)
        if inverse:
            bar = np.s_[max(0, top - 2 * pad) : top + h + 2 * pad, max(0, left - 3 * pad) : left + w + 3 * pad]
            self.pixels[bar], paint = self.ink, np.uint8(250)
        cover = ink.astype(np.float32) / 255
        self.pixels[box] = (self.pixels[box] * (1 - cover) + paint * cover).astype(np.uint8)
        self.cells.append(Cell.around(left, top, left + w, top + h, pad, text))
        return float(left + w)

    def row(self, texts: Sequence[str], places: Sequence[tuple[float, str]], factor: float = 1.0) -> None:
        """Cells side by side, each cut where the next one begins; places are (x, anchor), rising."""
        least = max(self.gap, MIN_GAP) * self.height(factor)
        end, starts = self.left - least, []
        for (x, anchor), text in zip(places, texts):
            w = self.glyphs(text, factor, 1.0, self.path).shape[1] if text else 0
            starts.append(x - {"l": 0, "m": w / 2, "r": w}[anchor])
        for k, ((x, anchor), text) in enumerate(zip(places, texts)):
            following = min([s for s, t in zip(starts[k + 1 :], texts[k + 1 :]) if t], default=self.right + least)
            limits = (end + least, min(following - least, self.right))
            if text and limits[1] - limits[0] > self.height(factor) * 0.5:
                end = max(end, self.put(text, x, anchor, factor, limits=limits))
        self.feed(factor)

    def feed(self, factor: float = 1.0, extra: float = 0.0) -> None:
        self.y += round(self.height(factor) * self.leading + extra)

    def line(self, text: str, anchor: str = "m", factor: float = 1.0, tall: float = 1.0, inverse: bool = False) -> None:
        x = {"l": self.left, "m": self.width / 2, "r": self.right}[anchor]
        pad = self.height(factor) * 0.35 if inverse else 0
        self.y += pad
        self.put(text, x, anchor, factor, tall, inverse, self.second if factor > 1.3 else "")
        self.feed(factor * max(1.0, tall), pad)

    def rule(self) -> None:
        """A line across, drawn or typed."""
        y = round(self.y + self.size * 0.4)
        step = int(self.rng.choice([1, 1, 6, 10]))
        thick = int(self.rng.integers(1, 4))
        if y + thick + 4 < MAX_HEIGHT:
            for x in range(self.left, self.right, step):
                self.pixels[y : y + thick, x : x + max(1, step * 2 // 3)] = self.ink
            if self.rng.random() < 0.3:
                self.pixels[y + thick + 2 : y + thick + 3, self.left : self.right] = self.ink
        self.y += self.size * float(self.rng.uniform(0.7, 1.2))


def _a_font(rng: np.random.Generator, paths: Sequence[str | None]) -> str | None:
    """One of the fonts; those of even width, which printers have, twice as often."""
    even = [path for path in paths if fonts.is_monospaced(path)]
    pool = even if even and rng.random() < 0.6 else paths
    return pool[int(rng.integers(len(pool)))]


def faded(pixels: np.ndarray, dots: int, rng: np.random.Generator) -> np.ndarray:
    """The paper after the printer and time: dots, parts that fade, columns that are missing, ink that bleeds.

    Args:
        pixels: uint8 grey (h, w), as it was meant.
        dots: pixels from one gap of a dot matrix to the next; 0 for a printer without.

    Returns:
        uint8 (h, w).
    """
    h, w = pixels.shape
    ink: np.ndarray = 255.0 - pixels
    if dots:
        grid = np.ones((h, w), np.float32)
        grid[:: dots + 1] = 0.25
        grid[:, :: dots + 1] = 0.25
        ink *= grid
    if rng.random() < 0.5:
        coarse = rng.uniform(0.35, 1.0, (int(rng.integers(2, 6)), int(rng.integers(2, 4)))).astype(np.float32)
        ink *= np.clip(cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC), 0.3, 1)
    if rng.random() < 0.15:
        ink[:, rng.integers(0, w, int(rng.integers(1, 4)))] = 0
    if rng.random() < 0.3:
        ink = cv2.GaussianBlur(ink, (0, 0), float(rng.uniform(0.4, 0.9)))
    return (255 - np.clip(ink, 0, 255)).astype(np.uint8)
