"""Receipts drawn on the fly: a data set that needs no files and has exact labels.

Receipt ``i`` of seed ``s`` is the same in every process of a machine (the fonts installed there take part).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocr.data.index.identity import hashes
from ocr.data.sources.render_cache import RenderCache, RenderedSample, RenderedSource, cache_key
from ocr.data.synthetic import fonts
from ocr.data.synthetic.camera import check_camera, simulate_camera
from ocr.data.synthetic.layout import draw_receipt
from ocr.data.synthetic.paper import ShopStyle
from ocr.data.synthetic.shop import draw_shop_receipt
from ocr.data.synthetic.words import SYLLABLES
from ocr.errors import UserError
from ocr.geometry.polygons import normal_form
from ocr.types import Truth


@dataclass
class SyntheticReceipts(RenderedSource):
    """A source of drawn receipts, one polygon per text cell.

    Attributes:
        count: how many.
        seed: a split's own; splits with different seeds share no receipt.
        difficulty: 0 for clean scans to 1 for crumpled phone pictures; scales every disturbance.
        weight: share of the source drawn per epoch, as for any source.
        style: plain, or shop: as shops print them, see :mod:`ocr.data.synthetic.shop`.
        fonts: folder with ``print`` and, for notes by hand, ``handwriting``, of font files; None: the system's.
            Of ``style: shop``, as the next.
        alphabets: keys of :data:`ocr.data.synthetic.words.SYLLABLES`.
        effects: see :func:`simulate_camera`.
    """

    count: int
    seed: int
    difficulty: float = 0.5
    weight: float = 1.0
    style: str = "plain"
    fonts: str | None = None
    alphabets: Sequence[str] = ("latin",)
    effects: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"a synthetic source needs a count of at least 1, got {self.count}")
        check_camera(self.difficulty, self.effects)
        if self.style not in ("plain", "shop"):
            raise UserError(f"style is plain or shop, got {self.style!r}")
        unknown = set(self.alphabets) - set(SYLLABLES)
        if unknown or not self.alphabets:
            raise UserError(f"alphabets are some of {', '.join(SYLLABLES)}, got {list(self.alphabets)}")
        if self.style == "plain" and (self.fonts is not None or list(self.alphabets) != ["latin"]):
            raise UserError("fonts and alphabets are settings of style=shop")
        self._shop = _shop_style(self.fonts, self.alphabets) if self.style == "shop" else None
        self._cache = RenderCache(cache_key("synthetic", *self._settings()))

    def _settings(self) -> list[object]:
        """The settings and fonts, which tell the receipts of one source from those of another."""
        paths = (*self._shop.print_fonts, *self._shop.hand_fonts) if self._shop else fonts.system_fonts()
        files = [[Path(path).name if self._shop else path, Path(path).stat().st_size] for path in paths if path]
        extra = [self.style, list(self.alphabets)] if self._shop else []
        effects = sorted(self.effects.items()) if self.effects else []
        return [self.seed, self.difficulty, files, *extra, *effects]

    def __len__(self) -> int:
        return self.count

    def name(self, i: int) -> str:
        return f"synthetic_{'shop_' if self._shop else ''}{self.seed}_{i:06d}.jpg"

    def _render(self, i: int) -> RenderedSample:
        rng = np.random.default_rng([self.seed, i])
        paper, cells = draw_shop_receipt(rng, self._shop) if self._shop else draw_receipt(rng)
        photo = simulate_camera(paper, rng, self.difficulty, self.effects)
        polygons = photo.project_polygons([cell.quad for cell in cells])
        if not photo.curl:
            polygons = [normal_form(polygon) for polygon in polygons]
        truth = Truth(polygons, np.zeros(len(polygons), bool), [cell.text for cell in cells])
        return RenderedSample(photo.jpeg, *photo.size, truth)

    def counts(self) -> dict[str, int]:
        """Numbers of images and, estimated from a few, of instances."""
        few = [len(self.load(i)[1].polygons) for i in range(min(4, self.count))]
        return {"images": self.count, "instances": round(sum(few) / len(few) * self.count), "ignored": 0}

    def fingerprint(self) -> str:
        """Hex digest of the settings, the fonts and the first receipt's pixels."""
        digest = hashlib.sha256(f"{self.count} {self._settings()}".encode())
        digest.update(self.load(0)[0].tobytes())
        return digest.hexdigest()[:16]

    def identities(self) -> np.ndarray:
        """Hashes of name and settings."""
        alphabets = f" {list(self.alphabets)}" if self._shop else ""
        return hashes(f"{self.name(i)} {self.difficulty}{alphabets}" for i in range(self.count))


def _shop_style(folder: str | None, alphabets: Sequence[str]) -> ShopStyle:
    """The fonts of a folder, or the system's.

    Raises:
        UserError: the folder has no fonts.
    """
    if folder is None:
        return ShopStyle((*fonts.system_fonts(), None), (), tuple(alphabets))
    hand = Path(folder) / "handwriting"
    hand_fonts = fonts.folder_fonts(str(hand)) if hand.is_dir() else ()
    return ShopStyle(fonts.folder_fonts(str(Path(folder) / "print")), hand_fonts, tuple(alphabets))
