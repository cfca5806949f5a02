"""Labels that look wrong are found, and sound ones are left alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ocr.audit.label_faults import Suspects, misplaced
from ocr.audit.splits import LabelledImage
from ocr.types import Truth
from tests.conftest import quad


def truth(polygons: list, texts: list[str] | None = None, ignore: list[bool] | None = None) -> Truth:
    polygons = [np.array(p, np.float32) for p in polygons]
    texts = texts or ["text"] * len(polygons)
    return Truth(polygons, np.array(ignore or [False] * len(polygons), bool), texts)


def inspected(*images: Truth) -> Suspects:
    suspects = Suspects.of(LabelledImage("a.jpg", 400, 800, image, "train") for image in images)
    suspects.finish()
    return suspects


def found(*images: Truth) -> dict[str, list[int]]:
    return {kind: [index for index, _ in rows] for kind, rows in inspected(*images).by_kind.items() if rows}


def test_a_text_that_lies_on_another_is_found_once():
    nested, apart = [quad(10, 10, 200, 20), quad(20, 12, 40, 16)], [quad(10, 60, 40, 12), quad(40, 60, 40, 12)]
    suspects = inspected(truth(nested + apart))
    assert suspects.by_kind["overlapping"] == [(0, [1])]
    assert suspects.counts() == {"overlapping": 1}


LINES = [quad(10, 30 * k, 12 * 10, 20) for k in range(12)]
TEXTS = ["0123456789"] * 12


@pytest.mark.parametrize("text, box", [("0123456789 0123456789", quad(10, 400, 120, 44)), ("ab\ncd", quad(10, 400))])
def test_two_lines_in_one_box_are_found(text: str, box: list):
    assert found(truth([*LINES, box], [*TEXTS, text])) == {"two_lines": [0]}
    assert found(truth([*LINES, quad(10, 400, 240, 20)], [*TEXTS, "0123456789 0123456789"])) == {}


def test_ignored_images_are_found():
    assert found(truth([quad(1, 1)], ignore=[True]), truth([quad(1, 1)]), truth([])) == {"all_ignored": [0]}


def test_words_among_lines_are_found_where_they_are_no_chance():
    lines, words = truth(LINES, ["two words"] * 12), truth(LINES, ["word"] * 12)
    assert found(*[lines] * 9, words) == {"mixed_levels": [9]}
    assert found(*[words] * 9, lines) == {"mixed_levels": [9]}
    assert found(*[lines] * 99, words) == {}
    assert found(*[words] * 9) == {}


def page() -> tuple[np.ndarray, list[np.ndarray]]:
    image = np.full((800, 400, 3), 255, np.uint8)
    polygons = []
    for k in range(12):
        cv2.putText(image, "text text", (20, 40 + 30 * k), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
        polygons.append(np.array(quad(15, 18 + 30 * k, 150, 28), np.float32))
    return image, polygons


def test_ink_tells_where_the_labels_belong():
    image, polygons = page()
    assert misplaced(image, polygons, 400, 800) is None
    assert misplaced(image, [p[:, ::-1] for p in polygons], 400, 800) == "transposed"
    assert misplaced(image, [np.array([400, 800]) - p for p in polygons], 400, 800) == "upside_down"
    assert misplaced(np.full_like(image, 255), polygons, 400, 800) is None


@pytest.mark.parametrize("wrong, counted", [(1, {}), (3, {"transposed": 3})])
def test_misplaced_labels_are_said_where_they_are_no_chance(wrong: int, counted: dict[str, int]):
    image, polygons = page()
    suspects = Suspects()
    for k in range(20):
        labels = Truth([p[:, ::-1] if k < wrong else p for p in polygons], np.zeros(12, bool), ["a"] * 12)
        suspects.inspect_ink(k, image, LabelledImage("a.jpg", 400, 800, labels, "train"))
    suspects.finish()
    assert suspects.counts() == counted
