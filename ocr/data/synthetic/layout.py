"""The printed side of a synthetic receipt: header, address, items in columns, totals, rules, barcode, date."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ocr.data.synthetic import fonts
from ocr.data.synthetic.words import digits

SHOPS = (
    "GOLDEN BAKERY", "City Mart", "RIVERSIDE CAFE", "Sunrise Grocers", "HARDWARE & CO", "Blue Door Books", "NOODLE BAR",
    "Pharmacy Plus", "GREEN LEAF MARKET", "Station Kiosk", "PERNIAGAAN JAYA SDN BHD", "Old Mill Coffee", "TECH WORLD",
)  # fmt: skip
STREETS = (
    "Market Street", "Jalan Sagu", "High Road", "Station Avenue", "Garden Lane", "Taman Daya", "Lake View", "Elm St",
)  # fmt: skip
TOWNS = ("Springfield", "Johor Bahru", "Northport", "Kuala Lumpur", "Oakville", "Lakeside", "Riverton", "Selangor")
ITEMS = (
    "Milk 1L", "WHITE BREAD", "Eggs (12)", "Green tea", "COFFEE LARGE", "Rice 5kg", "Chicken fillet", "Apple juice",
    "NOTEBOOK A5", "Ball pen blue", "Batteries AA x4", "Butter", "CHEESE SLICES", "Tomato", "Shampoo 400ml", "Soap bar",
    "Instant noodles", "Mineral water", "Chocolate", "PAPER TOWEL", "Paint brush 2in", "Screws M4", "Light bulb E27",
    "Sandwich", "Iced latte", "Bagel", "Orange", "Potato chips", "Umbrella", "USB cable 1m",
)  # fmt: skip
HANGUL_SHOPS = ("행복마트", "서울식당", "푸른약국", "한빛문구", "아침커피")
HANGUL_ITEMS = (
    "우유 1L", "식빵", "김치찌개", "아메리카노", "삼각김밥", "사과 주스", "계란 10구", "라면", "생수", "비누",
)  # fmt: skip
LABELS = {
    False: ("SUBTOTAL", "TAX", "TOTAL", "CASH", "CHANGE", "Qty", "Item", "Amount", "THANK YOU", "Please come again"),
    True: ("소계", "부가세", "합계", "현금", "거스름돈", "수량", "품명", "금액", "감사합니다", "또 오세요"),
}
MIN_WIDTH, MAX_WIDTH = 300, 460
MAX_LINES = 64
MARGIN_EMS = 0.12  # of the font size: annotators leave this much around the ink, too


@dataclass(frozen=True)
class Cell:
    """One piece of text on the paper: its quad float32 (4, 2), the ink's box and a margin, and the text."""

    quad: np.ndarray
    text: str

    @classmethod
    def around(cls, left: float, top: float, right: float, bottom: float, pad: int, text: str) -> Cell:
        """The cell of a text whose ink's box is given."""
        a, b, c, d = left - pad, top - pad, right + pad, bottom + pad
        return cls(np.array([[a, b], [c, b], [c, d], [a, d]], np.float32), text)


class _Sheet:
    """A growing strip of paper with a pen position."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.width = int(rng.integers(MIN_WIDTH, MAX_WIDTH))
        self.size = int(rng.integers(13, 21))
        choices = (*fonts.system_fonts(), None)
        self.path = choices[rng.integers(len(choices))]
        self.hangul = fonts.has_hangul(self.path) and rng.random() < 0.6
        self.image = Image.new("L", (self.width, (MAX_LINES + 8) * 40), 255)
        self.draw = ImageDraw.Draw(self.image)
        self.ink = int(rng.integers(10, 90))
        self.margin = int(rng.integers(8, 28))
        self.leading = float(rng.uniform(1.15, 1.6))
        self.y = float(rng.integers(8, 30))
        self.cells: list[Cell] = []

    def font(self, factor: float = 1.0) -> ImageFont.FreeTypeFont:
        return fonts.load(self.path, max(9, round(self.size * factor)))

    def put(self, text: str, x: float, anchor: str, factor: float = 1.0) -> None:
        """Draw one cell on the current line (anchor l, m or r)."""
        font = self.font(factor)
        room = self.width - 2 * self.margin
        while text and font.getlength(text) > room:
            text = text[:-1].rstrip()
        if not text:
            return
        mask, offset = font.getmask2(text, mode="L", anchor=anchor + "a")
        glyphs = Image.frombytes("L", mask.size, bytes(mask))
        ink = glyphs.getbbox()
        if ink is None:
            return
        corner = (round(x) + offset[0], round(self.y) + offset[1])
        self.image.paste(self.ink, corner, glyphs)
        left, top, right, bottom = (ink[k] + corner[k % 2] for k in range(4))
        pad = round(font.size * MARGIN_EMS)
        self.cells.append(Cell.around(left, top, right, bottom, pad, text))

    def feed(self, factor: float = 1.0) -> None:
        self.y += round(self.size * factor * self.leading)

    def line(self, text: str, factor: float = 1.0, anchor: str = "m") -> None:
        x = {"m": self.width / 2, "l": self.margin, "r": self.width - self.margin}[anchor]
        self.put(text, x, anchor, factor)
        self.feed(factor)

    def rule(self) -> None:
        style = self.rng.integers(3)
        y, left, right = round(self.y + self.size * 0.3), self.margin, self.width - self.margin
        if style == 0:
            self.draw.line((left, y, right, y), fill=self.ink, width=int(self.rng.integers(1, 3)))
        elif style == 1:
            for x in range(left, right, 8):
                self.draw.line((x, y, min(x + 4, right), y), fill=self.ink)
        else:
            self.draw.line((left, y, right, y), fill=self.ink)
            self.draw.line((left, y + 3, right, y + 3), fill=self.ink)
        self.y += round(self.size * 0.8)

    def barcode(self) -> None:
        x, right = self.width * 0.2, self.width * 0.8
        bottom = self.y + self.size * 2
        while x < right:
            bar = int(self.rng.integers(1, 5))
            self.draw.rectangle((round(x), round(self.y), round(x) + bar - 1, round(bottom)), fill=self.ink)
            x += bar + int(self.rng.integers(1, 5))
        self.y = bottom + 4
        self.line(digits(self.rng, 12), 0.9)


def draw_receipt(rng: np.random.Generator) -> tuple[np.ndarray, list[Cell]]:
    """A receipt as a printer leaves it.

    Returns:
        uint8 grey (h, w), and its text cells in the paper's pixels.
    """
    sheet = _Sheet(rng)
    labels = LABELS[sheet.hangul]
    _header(sheet)
    total = _items(sheet, labels)
    _totals(sheet, labels, total)
    if rng.random() < 0.4:
        sheet.barcode()
    if rng.random() < 0.7:
        sheet.line(labels[8])
    if rng.random() < 0.5:
        sheet.line(labels[9], 0.9)
    height = min(round(sheet.y + rng.integers(8, 40)), sheet.image.height)
    return np.asarray(sheet.image)[:height], sheet.cells


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[rng.integers(len(options))]


def _header(sheet: _Sheet) -> None:
    rng = sheet.rng
    sheet.line(_pick(HANGUL_SHOPS if sheet.hangul else SHOPS, rng), float(rng.uniform(1.1, 1.9)))
    anchor = "m" if rng.random() < 0.7 else "l"
    sheet.line(f"No. {rng.integers(1, 300)}, {_pick(STREETS, rng)}", 1.0, anchor)
    sheet.line(f"{rng.integers(10000, 99999)} {_pick(TOWNS, rng)}", 1.0, anchor)
    if rng.random() < 0.6:
        sheet.line(f"Tel: {rng.integers(10, 99)}-{rng.integers(1000000, 9999999)}", 1.0, anchor)
    sheet.feed(0.4)
    date = f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(2015, 2027)}"
    sheet.put(date, sheet.margin, "l")
    sheet.put(f"{rng.integers(8, 22):02d}:{rng.integers(0, 60):02d}", sheet.width - sheet.margin, "r")
    sheet.feed()
    if rng.random() < 0.6:
        sheet.line(f"Receipt #{rng.integers(1000, 999999)}", 1.0, "l")
    sheet.rule()


def _money(value: float, rng: np.random.Generator, hangul: bool) -> str:
    if hangul:
        return f"{int(value * 100) * 10:,}"
    return ("$" if rng.random() < 0.1 else "") + f"{value:,.2f}"


def _items(sheet: _Sheet, labels: tuple[str, ...]) -> float:
    rng, right = sheet.rng, sheet.width - sheet.margin
    names = HANGUL_ITEMS if sheet.hangul else ITEMS
    quantities = rng.random() < 0.5
    middle = sheet.width * float(rng.uniform(0.55, 0.68))
    if rng.random() < 0.5:
        sheet.put(labels[6], sheet.margin, "l")
        if quantities:
            sheet.put(labels[5], middle, "m")
        sheet.put(labels[7], right, "r")
        sheet.feed()
        sheet.rule()
    total = 0.0
    for _ in range(rng.integers(3, 22)):
        price = float(np.round(rng.lognormal(1.8, 1.0), 2))
        quantity = int(rng.integers(1, 6))
        amount = _money(price * quantity, rng, sheet.hangul)
        limit = (middle - 24 if quantities else right - sheet.font().getlength(amount) - 16) - sheet.margin
        name = _pick(names, rng)
        while sheet.font().getlength(name) > limit:
            name = name[:-1].rstrip()
        sheet.put(name, sheet.margin, "l")
        if quantities:
            sheet.put(str(quantity), middle, "m")
        sheet.put(amount, right, "r")
        sheet.feed()
        if rng.random() < 0.12:
            sheet.put(digits(rng, 8), sheet.margin + 12, "l", 0.9)
            sheet.feed(0.9)
        total += price * quantity
    return total


def _totals(sheet: _Sheet, labels: tuple[str, ...], total: float) -> None:
    rng, right = sheet.rng, sheet.width - sheet.margin
    sheet.rule()
    rows = [(labels[0], total), (labels[1], total * 0.06), (labels[2], total * 1.06)]
    if rng.random() < 0.6:
        paid = float(np.ceil(total * 1.06 / 10) * 10)
        rows += [(labels[3], paid), (labels[4], paid - total * 1.06)]
    for label, value in rows:
        factor = 1.3 if label == labels[2] and rng.random() < 0.6 else 1.0
        sheet.put(label, sheet.margin, "l", factor)
        sheet.put(_money(value, rng, sheet.hangul), right, "r", factor)
        sheet.feed(factor)
    if rng.random() < 0.6:
        sheet.rule()
    sheet.feed(0.3)
