"""Figures of a set that an audit shows: sizes at network input, what is too small, what overlaps."""

from __future__ import annotations

import numpy as np
import pytest

from ocr.data.statistics import TextFigures
from ocr.pipeline import ResizePolicy
from ocr.types import Truth
from tests.conftest import quad


def figures(*images: tuple[int, int, list, list[bool]]) -> TextFigures:
    rows = []
    for k, (w, h, polygons, ignore) in enumerate(images):
        truth = Truth([np.array(p, np.float32) for p in polygons], np.array(ignore, bool), ["x"] * len(ignore))
        rows.append((f"{k}.jpg", w, h, truth))
    return TextFigures.of(rows, ResizePolicy(500, 32, 1.0), 4)


def test_heights_are_those_at_network_input():
    got = figures((1000, 800, [quad(10, 10, 60, 20), quad(10, 50, 60, 6)], [False, False]))
    np.testing.assert_allclose(got.heights, [10, 3])
    np.testing.assert_allclose(got.needed, [200, 1000 * 4 / 6])
    np.testing.assert_allclose(got.aspects, [3, 10])
    summary = got.summary(4)
    assert summary["too_small"] == 1 and summary["long_side_needed"] == pytest.approx(662, abs=1)
    assert summary["text_height_histogram"]["3"] == 1 and summary["text_height_histogram"]["8"] == 1
    assert sum(summary["text_height_histogram"].values()) == 2


@pytest.mark.parametrize("degrees", [0, 30, -45, 89])
def test_angles_are_those_of_the_text(degrees: float):
    turn = np.deg2rad(degrees)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    corners = [200 + sx * 50 * along + sy * 10 * across for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    assert figures((400, 400, [corners], [False])).angles[0] == pytest.approx(degrees, abs=0.01)


def test_ignored_text_is_left_out_and_images_without_other_text_are_named():
    got = figures((400, 400, [quad(10, 10)], [True]), (400, 400, [], []), (400, 400, [quad(10, 10)], [False]))
    assert got.ignored_images == ["0.jpg"] and got.per_image.tolist() == [0, 0, 1] and len(got.heights) == 1
    assert figures().summary(4)["text_height"] == {}


def test_a_text_that_lies_on_another_is_found_once():
    nested, apart = [quad(10, 10, 200, 20), quad(20, 12, 40, 16)], [quad(10, 60, 40, 12), quad(40, 60, 40, 12)]
    got = figures((400, 400, nested + apart, [False] * 4))
    assert got.overlapping == [("0.jpg", "x")]
    assert figures((400, 400, [quad(10, 10)] * 2, [False] * 2)).summary(4)["overlapping"] == 1
