"""Figures of a set that an audit shows: sizes at network input, what is too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocr.audit.splits import LabelledImage
from ocr.audit.statistics import TextFigures, check_text_sizes
from ocr.data.index.report import Report
from ocr.data.sources.build import FileSource, build_source
from ocr.errors import UserError
from ocr.pipeline import ResizePolicy
from ocr.types import Truth
from tests.conftest import quad, write_image


def figures(*images: tuple[int, int, list, list[bool]]) -> TextFigures:
    rows = []
    for k, (w, h, polygons, ignore) in enumerate(images):
        truth = Truth([np.array(p, np.float32) for p in polygons], np.array(ignore, bool), ["xy"] * len(ignore))
        rows.append(LabelledImage(f"{k}.jpg", w, h, truth, "train"))
    return TextFigures.of(rows, ResizePolicy(500, 32, 1.0), 4)


def test_heights_are_those_at_network_input():
    got = figures((1000, 800, [quad(10, 10, 60, 20), quad(10, 50, 60, 6)], [False, False]))
    np.testing.assert_allclose(got.heights, [10, 3])
    np.testing.assert_allclose(got.needed, [200, 1000 * 4 / 6])
    np.testing.assert_allclose(got.aspects, [3, 10])
    summary = got.summary(4)
    assert summary["too_small"] == 1 and summary["long_side_needed"] == pytest.approx(667, abs=1)
    assert summary["text_height_histogram"]["3"] == 1 and summary["text_height_histogram"]["8"] == 1
    assert sum(summary["text_height_histogram"].values()) == 2


@pytest.mark.parametrize("degrees", [0, 30, -45, 89])
def test_angles_are_those_of_the_text(degrees: float):
    turn = np.deg2rad(degrees)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    corners = [200 + sx * 50 * along + sy * 10 * across for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    assert figures((400, 400, [corners], [False])).angles[0] == pytest.approx(degrees, abs=0.01)


def test_ignored_text_is_left_out():
    got = figures((400, 400, [quad(10, 10)], [True]), (400, 400, [], []), (400, 400, [quad(10, 10)], [False]))
    assert got.per_image.tolist() == [0, 0, 1] and len(got.heights) == 1
    assert figures().summary(4)["text_height"] == {}


def file_source(root: Path, *boxes: list[list[list[int]]]) -> FileSource:
    """A set of images of 1000 x 800 pixels, each with such quads."""
    for k, quads in enumerate(boxes):
        write_image(root / f"img/{k}.jpg", 1000, 800)
        lines = [",".join(str(c) for point in q for c in point) + ",x" for q in quads]
        (root / "gt").mkdir(exist_ok=True)
        (root / f"gt/gt_{k}.txt").write_text("\n".join(lines))
    spec = {"format": "icdar", "images": "img", "annotations": "gt"}
    source = build_source(spec, root, Report())
    assert isinstance(source, FileSource)
    return source


def test_training_says_how_much_text_is_too_small(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    large, small = quad(10, 10, 60, 20), quad(10, 50, 60, 6)
    policy = ResizePolicy(500, 32, 1.0)
    with caplog.at_level("WARNING"):
        summary = check_text_sizes([file_source(tmp_path / "a", [large, small], [large])], policy, 4)
    assert (summary["texts"], summary["too_small"]) == (3, 1)
    [line] = caplog.messages
    assert line.startswith("1 of 3 texts looked at are below 4 pixels high at network input (long side 500)")
    assert "model.pipeline.resize.long_side=667 " in line
    caplog.clear()
    assert check_text_sizes([file_source(tmp_path / "b", [large], [large])], policy, 4)["too_small"] == 0
    assert not caplog.messages and check_text_sizes([], policy, 4) == {}


def test_a_set_of_text_that_is_too_small_is_refused(tmp_path: Path):
    source = file_source(tmp_path, [quad(10, 50, 60, 6)], [quad(10, 50, 60, 5)])
    with pytest.raises(UserError, match=r"all 2 texts are below 4 pixels high .*long_side=\d+ keeps"):
        check_text_sizes([source], ResizePolicy(500, 32, 1.0), 4)
