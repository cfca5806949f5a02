"""Receipts as shops print them: tables, headers in white on black, logos, notes by hand.

:mod:`ocr.data.synthetic.layout` draws plain ones. What a text is follows from the gaps: words that stand a space apart
are one text, and what stands at least the height of its type apart is another.
"""

from __future__ import annotations

import cv2
import numpy as np

from ocr.data.synthetic import words
from ocr.data.synthetic.layout import Cell
from ocr.data.synthetic.paper import MAX_HEIGHT, MIN_GAP, Paper, ShopStyle, faded


def draw_shop_receipt(rng: np.random.Generator, style: ShopStyle) -> tuple[np.ndarray, list[Cell]]:
    """A receipt as a shop's printer leaves it.

    Returns:
        uint8 grey (h, w), and its text cells in the paper's pixels.
    """
    paper = Paper(rng, style)
    if rng.random() < 0.35:
        _logo(paper)
    _header(paper)
    _information(paper)
    for _ in range(1 if rng.random() < 0.85 else 2):
        _items(paper)
    _totals(paper)
    for block in (_information, _table, _paragraph, _barcode, _thanks, _handwriting):
        if rng.random() < 0.4:
            block(paper)
    height = min(round(paper.y + rng.integers(4, 60)), MAX_HEIGHT)
    cells = [cell for cell in paper.cells if cell.quad[:, 1].max() < height]
    return faded(paper.pixels[:height], paper.dots, rng), cells


def _logo(paper: Paper) -> None:
    """Shapes that are no text."""
    rng, size = paper.rng, int(paper.rng.integers(40, 120))
    x, y = round(paper.width / 2 + rng.normal(0, 0.1) * paper.width), round(paper.y)
    for _ in range(rng.integers(2, 7)):
        centre = (x + int(rng.integers(-size, size)), y + size // 2 + int(rng.integers(-size // 3, size // 3)))
        axes = (int(rng.integers(6, size)), int(rng.integers(4, size // 2)))
        thick = -1 if rng.random() < 0.5 else int(rng.integers(2, 8))
        colour = float(rng.choice([paper.ink, 255, 120]))
        if rng.random() < 0.5:
            cv2.ellipse(paper.pixels, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, thick)
        else:
            corners = np.array(centre) + rng.integers(-size // 2, size // 2, (int(rng.integers(3, 6)), 2))
            cv2.polylines(paper.pixels, [corners.astype(np.int32)], True, colour, max(2, thick))
    bottom = round(paper.y + size * 1.5)
    paper.pixels[bottom:] = 255
    paper.pixels[: round(max(0, paper.y - 4))] = 255
    paper.y = bottom + 6


def _header(paper: Paper) -> None:
    rng = paper.rng
    anchor = "m" if rng.random() < 0.75 else "l"
    inverse = rng.random() < 0.15
    paper.line(paper.phrase(1, 3), anchor, float(rng.uniform(1.1, 2.4)), float(rng.choice([1, 1, 1.6])), inverse)
    for _ in range(rng.integers(1, 6)):
        label = str(rng.choice(["TEL: ", "FAX ", "REG NO ", "GST ID : ", "", ""]))
        text = label + words.number(rng) if rng.random() < 0.45 else paper.phrase(2, 6)
        paper.line(text, anchor, 1.0 if rng.random() < 0.8 else 0.85)
    if rng.random() < 0.5:
        title = paper.phrase(1, 2).upper()
        ends = str(rng.choice(["", "", "*** ", "- "]))
        paper.line(ends + title + ends[::-1], "m", float(rng.uniform(1, 1.6)), 1.0, rng.random() < 0.25)
    paper.feed(0.3)
    if rng.random() < 0.5:
        paper.rule()


def _information(paper: Paper) -> None:
    """Labels and values: as one text, side by side, with a colon of its own, or two pairs in a row."""
    rng = paper.rng
    way, middle = int(rng.integers(4)), float(rng.uniform(0.28, 0.5)) * paper.width
    for _ in range(rng.integers(1, 6)):
        label = paper.phrase(1, 2)
        value = str(
            rng.choice([words.number(rng), words.date(rng), words.time(rng), words.code(rng), paper.phrase(1, 2)])
        )
        if way == 0:
            paper.line(f"{label}{rng.choice([':', ' :', ' #', '.'])} {value}", "l")
        elif way == 1:
            paper.row([f"{label}:" if rng.random() < 0.5 else label, value], [(paper.left, "l"), (middle, "l")])
        elif way == 2:
            paper.row([label, f": {value}"], [(paper.left, "l"), (middle, "l")])
        else:
            paper.row(
                [f"{label}: {value}", f"{words.date(rng)} {words.time(rng)}"], [(paper.left, "l"), (paper.right, "r")]
            )
    if rng.random() < 0.5:
        paper.rule()


def _columns(paper: Paper) -> list[tuple[str, float, str]]:
    """Columns of an item table: (kind, x, anchor), from left to right."""
    rng, w = paper.rng, paper.right - paper.left
    ways: list[list[tuple[str, float, str]]] = [
        [("name", 0, "l"), ("amount", 1, "r")],
        [("name", 0, "l"), ("amount", 0.92, "r"), ("flag", 1, "r")],
        [("count", 0, "l"), ("name", 0.14, "l"), ("amount", 1, "r")],
        [("name", 0, "l"), ("count", 0.6, "m"), ("amount", 1, "r")],
        [("name", 0, "l"), ("count", 0.5, "r"), ("price", 0.74, "r"), ("amount", 1, "r")],
        [("code", 0, "l"), ("count", 0.45, "r"), ("price", 0.7, "r"), ("amount", 1, "r")],
        [("count", 0, "l"), ("price", 0.3, "r"), ("amount", 0.65, "r"), ("amount", 1, "r")],
        [("code", 0, "l"), ("name", 0.25, "l"), ("amount", 0.85, "r"), ("flag", 1, "r")],
    ]
    columns = ways[int(rng.integers(len(ways)))]
    return [
        (kind, paper.left + (share + rng.normal(0, 0.02) * (0 < share < 1)) * w, anchor)
        for kind, share, anchor in columns
    ]


def _content(paper: Paper, kind: str) -> str:
    rng = paper.rng
    if kind == "count":
        return str(rng.choice([str(rng.integers(1, 20)), f"{rng.integers(1, 5)} X", f"{rng.integers(1, 5)}.00"]))
    if kind == "code":
        return words.number(rng) if rng.random() < 0.5 else words.code(rng)
    if kind == "flag":
        return str(rng.choice(["T", "SR", "A", "*", "Z", "F", "SR-S"]))
    if kind in ("amount", "price"):
        currency = f"{rng.choice(words.CURRENCIES)} " if rng.random() < 0.05 else "$" if rng.random() < 0.1 else ""
        return currency + words.amount(rng)
    return paper.phrase(1, 5)


def _items(paper: Paper) -> None:
    rng, columns = paper.rng, _columns(paper)
    places = [(x, anchor) for _, x, anchor in columns]
    above = rng.random() < 0.3  # the name on a line of its own
    start = paper.y
    if rng.random() < 0.6:
        paper.row([paper.phrase(1, 1)[:9] for _ in columns], places)
        if rng.random() < 0.6:
            paper.rule()
    for _ in range(rng.integers(2, 18)):
        if above:
            paper.line(paper.phrase(2, 5), "l")
        texts = ["" if rng.random() < 0.04 else _content(paper, kind) for kind, _, _ in columns]
        if above and columns[0][0] == "name":
            texts[0] = words.number(rng)
        paper.row(texts, places)
        if rng.random() < 0.08:
            paper.put(paper.phrase(1, 3), paper.left + 2 * paper.size, "l", 0.9)
            paper.feed(0.9)
    if rng.random() < 0.1:  # ruled columns
        for x, anchor in places[1:]:
            edge = round(x - paper.size * (0.6 if anchor == "l" else 5))
            if paper.left < edge < paper.right and not _struck(paper, edge, start):
                paper.pixels[round(start) : round(paper.y), edge : edge + 1] = paper.ink
    if rng.random() < 0.7:
        paper.rule()


def _struck(paper: Paper, x: int, start: float) -> bool:
    """Whether a vertical line would cross a text below ``start``."""
    return any(q[0, 0] - 2 <= x <= q[1, 0] + 2 for q in (cell.quad for cell in paper.cells) if q[2, 1] > start)


def _totals(paper: Paper) -> None:
    """Labels and amounts, far apart or as near as two texts can be, with a currency between, before or none."""
    rng = paper.rng
    near = rng.random() < 0.45
    currency = str(rng.choice(words.CURRENCIES)) if rng.random() < 0.35 else ""
    apart, colon = rng.random() < 0.5, str(rng.choice(["", "", ":", " :"]))
    for _ in range(rng.integers(2, 8)):
        factor = float(rng.uniform(1.1, 1.8)) if rng.random() < 0.2 else 1.0
        text = words.amount(rng)
        if currency and not apart:
            text = f"{currency} {text}" if len(currency) > 1 else currency + text
        label, least = paper.phrase(1, 3) + colon, MIN_GAP * paper.height(factor)
        width = paper.glyphs(text, factor, 1.0, paper.path).shape[1]
        start = paper.right - width
        if currency and apart:
            paper.put(currency, start - least * rng.uniform(1.0, 1.8), "r", factor)
            start -= least * 1.8 + paper.glyphs(currency, factor, 1.0, paper.path).shape[1]
        paper.put(text, paper.right, "r", factor)
        limits = (paper.left, start - least)
        if limits[1] - limits[0] > paper.height(factor) * 2:
            x, anchor = (limits[1] - least * rng.uniform(0, 1.5), "r") if near else (paper.left, "l")
            paper.put(label, x, anchor, factor, limits=limits)
        paper.feed(factor)
    if rng.random() < 0.4:
        paper.rule()


def _table(paper: Paper) -> None:
    """A small table of figures, as of taxes."""
    rng, count = paper.rng, int(paper.rng.integers(2, 5))
    places = [(paper.left + (k + 1) / count * (paper.right - paper.left), "r") for k in range(count - 1)]
    places = [(float(paper.left), "l"), *places]
    for row in range(rng.integers(2, 5)):
        first = paper.phrase(1, 1) if row == 0 else str(rng.choice(["SR @ 6%", "ZRL", "T1 = 6.0%", words.code(rng)]))
        paper.row([first, *(paper.phrase(1, 1) if row == 0 else words.amount(rng) for _ in places[1:])], places, 0.95)


def _paragraph(paper: Paper) -> None:
    factor, anchor = float(paper.rng.uniform(0.7, 1.0)), "m" if paper.rng.random() < 0.6 else "l"
    for _ in range(paper.rng.integers(2, 7)):
        paper.line(paper.phrase(4, 10), anchor, factor)


def _thanks(paper: Paper) -> None:
    paper.line(paper.phrase(2, 4), "m", float(paper.rng.uniform(1, 1.5)), 1.0, paper.rng.random() < 0.1)


def _barcode(paper: Paper) -> None:
    """Bars with a number below, or a square of dots."""
    rng, top = paper.rng, round(paper.y + 4)
    if rng.random() < 0.5:
        cell, count = int(rng.integers(3, 6)), int(rng.integers(21, 30))
        square = np.kron(rng.integers(0, 2, (count, count)), np.ones((cell, cell))).astype(bool)
        left = max(0, (paper.width - count * cell) // 2)
        view = paper.pixels[top : top + count * cell, left : left + count * cell]
        view[square[: view.shape[0], : view.shape[1]]] = paper.ink
        paper.y = top + count * cell + 8
        return
    x, bottom = paper.width * 0.15, top + int(rng.integers(30, 80))
    while x < paper.width * 0.85:
        bar = int(rng.integers(1, 5))
        paper.pixels[top:bottom, round(x) : round(x) + bar] = paper.ink
        x += bar + int(rng.integers(1, 5))
    paper.y = bottom + 6
    paper.line(words.number(rng), "m", 0.9)


def _handwriting(paper: Paper) -> None:
    """A note by hand, larger than the print."""
    if not paper.style.hand_fonts:
        return
    rng = paper.rng
    path = paper.style.hand_fonts[rng.integers(len(paper.style.hand_fonts))]
    text = words.amount(rng) if rng.random() < 0.5 else words.phrase(rng, "latin", 1, 2).title()
    paper.feed(0.5)
    paper.put(text, float(rng.uniform(0.2, 0.8)) * paper.width, "m", float(rng.uniform(1.4, 2.4)), path=path)
    paper.feed(2.4)
