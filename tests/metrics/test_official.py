"""The three protocols against figures of their official programs, on real images (see tests/fixtures/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ocr.data.formats.manifest import sample_of
from ocr.data.formats.quad_lines import read_quad_file
from ocr.data.index.report import Report
from ocr.metrics.cleval import CLEval
from ocr.metrics.deteval import DetEval
from ocr.metrics.hmean import Hmean
from ocr.metrics.protocol import evaluate
from ocr.types import Detections, Truth
from tests.conftest import FIXTURES, all_metrics

OFFICIAL = json.loads((FIXTURES / "official_scores.json").read_text())
FIGURES = ("precision", "recall", "hmean")


def truth_of(labels: str | None) -> Truth:
    if labels is None:
        return Truth([], np.zeros(0, bool), [])
    row = read_quad_file(FIXTURES / labels, Report())
    instances = sample_of([row], Path("image.jpg"), FIXTURES / labels, Report()).instances
    ignore = np.array([i.ignore and labels.startswith("icdar2015") for i in instances], bool)
    return Truth([i.polygon for i in instances], ignore, [i.text for i in instances])


def detections_of(image: dict) -> Detections:
    polygons = [np.array(p, np.float32).reshape(-1, 2) for p in image["detections"]]
    return Detections(polygons, np.ones(len(polygons)))


def with_last_pixel(polygons: list[np.ndarray]) -> list[np.ndarray]:
    """Bounding rectangles whose last pixel is counted, as the competition's DetEval takes all shapes."""
    rectangles = []
    for polygon in polygons:
        (left, top), (right, bottom) = polygon.min(axis=0), polygon.max(axis=0) + 1
        rectangles.append(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32))
    return rectangles


def rectangles_of(found: Detections, truth: Truth) -> tuple[Detections, Truth]:
    return (
        Detections(with_last_pixel(found.polygons), found.scores),
        Truth(with_last_pixel(truth.polygons), truth.ignore, truth.texts),
    )


def figures(protocol, pairs: list[tuple[Detections, Truth]]) -> dict[str, float]:
    values = evaluate(protocol, [found for found, _ in pairs], [truth for _, truth in pairs])
    bare = {name.removeprefix("deteval_").removeprefix("cleval_"): value for name, value in values.items()}
    return {name: value for name, value in bare.items() if name in FIGURES}


@pytest.mark.parametrize("name", OFFICIAL)
def test_figures_equal_those_of_the_official_programs(name: str):
    images = OFFICIAL[name]["images"]
    pairs = [(detections_of(image), truth_of(image["labels"])) for image in images]
    rectangles = [rectangles_of(*pair) for pair in pairs]
    for image, pair, boxes in zip(images, pairs, rectangles, strict=True):
        ours = all_metrics().update([pair[0]], [pair[1]]).image_scores[0]
        assert {k: ours[k] for k in FIGURES} == pytest.approx(image["icdar2015"], abs=2e-6), image["labels"]
        assert figures(CLEval(), [pair]) == pytest.approx(image["cleval"], abs=2e-6), image["labels"]
        if image["labels"]:
            assert figures(DetEval(), [boxes]) == pytest.approx(image["deteval"], abs=2e-6), image["labels"]
    pooled = OFFICIAL[name]["all"]
    assert min(figures["hmean"] for figures in pooled.values()) > 0.5
    assert figures(Hmean(), pairs) == pytest.approx(pooled["icdar2015"], abs=2e-6)
    assert figures(DetEval(), rectangles) == pytest.approx(pooled["deteval"], abs=2e-6)
    assert figures(CLEval(), pairs) == pytest.approx(pooled["cleval"], abs=2e-6)


def test_the_cases_hold_what_the_protocols_differ_in():
    """Splits, merges, text to ignore, an image without text: otherwise equal figures would show little."""
    images = [image for entry in OFFICIAL.values() for image in entry["images"]]
    assert sum(len(image["detections"]) for image in images) > 250
    assert any(image["labels"] is None and image["icdar2015"]["recall"] == 1 for image in images)
    assert any(truth_of(image["labels"]).ignore.any() for image in images)
    assert len({round(image[p]["hmean"], 3) for image in images for p in ("icdar2015", "deteval", "cleval")}) > 25
