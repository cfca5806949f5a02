"""Invented words, names and numbers for drawn receipts: a network must not learn a vocabulary."""

from __future__ import annotations

import numpy as np

SYLLABLES = {
    name: tuple(text.split())
    for name, text in {
        "latin": "ba ka ter ing son el or ma ri ta no pen chi co fa le mi ro sa ti un ver wa zo qu en al ock ish ton "
        "ble ple gra str and ice eam oil ard ket int per ju gh sh th ph ck ss oo ee ea ou 's y",
        "accented": "é ü ö ß ça ñá ão ère ź ł ř ě ő ş ğ ä in en ur ma lo ta ne si kra",
        "cyrillic": "ба ко мо ла ри на те сы рь по жа ще ий ая ов ск пр ст хл еб мол яг ды чай",
        "greek": "κα λη μέ ρα ψω μί τυ ρό νε σα λά τα κρ ασ ί γά φρ ού",
    }.items()
}
PROBES = {"latin": "A", "accented": "ő", "cyrillic": "ж", "greek": "ψ"}  # a letter that a font of the alphabet draws
CURRENCIES = ("RM", "$", "USD", "EUR", "Rp", "SGD")


def word(rng: np.random.Generator, alphabet: str) -> str:
    """One to four syllables."""
    parts = SYLLABLES[alphabet]
    text = "".join(parts[k] for k in rng.integers(len(parts), size=rng.integers(1, 5)))
    return text.strip("'") or "a"


def phrase(rng: np.random.Generator, alphabet: str, least: int = 1, most: int = 4) -> str:
    """Words with a space between, some of them numbers or codes, in capitals or not."""
    words = [
        code(rng) if rng.random() < 0.12 else word(rng, alphabet) for _ in range(int(rng.integers(least, most + 1)))
    ]
    text = " ".join(words)
    style = rng.random()
    return text.upper() if style < 0.6 else text.title() if style < 0.85 else text


def digits(rng: np.random.Generator, count: int) -> str:
    """Random digits."""
    return "".join(str(digit) for digit in rng.integers(0, 10, count))


def code(rng: np.random.Generator) -> str:
    """A product code, size or quantity."""
    text = digits(rng, int(rng.integers(1, 9)))
    return str(rng.choice([text, f"{text[:3]}ML", f"X{text[:2]}", f"#{text}", f"({text[:2]})", f"{text}-A"]))


def number(rng: np.random.Generator) -> str:
    """A long number as receipts have: telephone, tax registration, card, barcode."""
    n = digits(rng, 14)
    forms = [
        f"{n[:2]}-{n[2:10]}", f"({n[:3]}) {n[3:6]}-{n[6:10]}", n[:12], f"************{n[:4]}",
        f"{n[:6]}-{'ABCDKVX'[int(n[0]) % 7]}", f"{n[:5]}/{n[5:8]}",
    ]  # fmt: skip
    return str(rng.choice(forms))


def date(rng: np.random.Generator) -> str:
    """A day, in one of the usual ways."""
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(2008, 2027))
    name = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[month - 1]
    forms = [
        f"{day:02d}/{month:02d}/{year}",
        f"{month}/{day}/{year % 100:02d}",
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d} {name} {year}",
        f"{name.upper()} {day}, {year}",
        f"{day:02d}-{month:02d}-{year % 100:02d}",
    ]
    return forms[rng.integers(len(forms))]


def time(rng: np.random.Generator) -> str:
    """A time of day."""
    hour, minute = int(rng.integers(7, 23)), int(rng.integers(0, 60))
    return str(rng.choice([f"{hour:02d}:{minute:02d}", f"{hour % 12 or 12}:{minute:02d} {'AP'[hour > 11]}M"]))


def amount(rng: np.random.Generator, value: float | None = None) -> str:
    """A sum of money without its currency."""
    value = float(rng.lognormal(2.2, 1.2)) if value is None else value
    return f"{value:,.2f}" if rng.random() < 0.93 else f"-{value:,.2f}" if rng.random() < 0.5 else f"{value:,.2f}-"
