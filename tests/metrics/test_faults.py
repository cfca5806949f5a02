"""Kinds of faults, on boxes whose kind is plain to see."""

from __future__ import annotations

import numpy as np

from ocr.metrics.faults import kinds
from ocr.metrics.matching import compare
from ocr.types import Detections, Truth


def box(x: float, width: float, y: float = 0) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + 10], [x, y + 10]], np.float32)


def kinds_of(
    texts: list[np.ndarray], detections: list[np.ndarray], ignore: tuple[int, ...] = ()
) -> tuple[list[str], list[str]]:
    ignored = np.isin(np.arange(len(texts)), ignore)
    found = Detections(detections, np.ones(len(detections), np.float32))
    return kinds(compare(found, Truth(texts, ignored, [""] * len(texts))))


def test_each_kind_of_fault():
    item, price = box(0, 100), box(200, 100)
    assert kinds_of([item, price], [box(0, 300)]) == (["merged", "merged"], ["merges"])
    assert kinds_of([item, price], [box(0, 310), price]) == (["merged", "found"], ["merges", "found"])
    assert kinds_of([item], [box(0, 45), box(55, 45)]) == (["split"], ["part", "part"])
    assert kinds_of([item], [box(0, 40)]) == (["inexact"], ["part"])
    assert kinds_of([item], [box(0, 250)]) == (["inexact"], ["part"])
    assert kinds_of([item, price], [price, box(400, 50)]) == (["unseen", "found"], ["found", "elsewhere"])
    assert kinds_of([item, price], [item, price]) == (["found", "found"], ["found", "found"])


def test_ignored_text_makes_no_fault():
    assert kinds_of([box(0, 100), box(200, 100)], [box(0, 100)], ignore=(0,)) == (["ignored", "unseen"], ["ignored"])
    assert kinds_of([], []) == ([], []) and kinds_of([], [box(0, 5)]) == ([], ["elsewhere"])
