"""The metric against a slow written-out version, on random polygons."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from ocr.metrics import collection
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import ComparedImage, match_pairs, pair, scores
from ocr.metrics.protocol import evaluate
from ocr.types import Detections, Truth
from tests.conftest import all_metrics


def plain(matched: float, detected: float, wanted: float) -> dict[str, float]:
    return scores(matched, detected, matched, wanted)


def box(x: float, y: float, w: float, h: float, angle: float = 0.0) -> np.ndarray:
    points = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    c, s = np.cos(angle), np.sin(angle)
    return (points @ np.array([[c, s], [-s, c]]) + (x, y)).astype(np.float32)


def count(found: Detections, truth: Truth, threshold: float = 0.5) -> tuple[int, int, int]:
    pairs = pair(found.polygons, truth.polygons)
    image = ComparedImage(found, truth, pairs, match_pairs(pairs, truth.ignore, threshold))
    return tuple(Hmean().count(image).tolist())


def slow_count(detections: list, truth: list, ignore: list, threshold: float) -> tuple[int, int, int]:
    """The ICDAR 2015 protocol as its paper tells it, one pair at a time."""
    shapes_d, shapes_t = [shapely.Polygon(p) for p in detections], [shapely.Polygon(p) for p in truth]
    dont_care = set()
    for j, d in enumerate(shapes_d):
        for i, t in enumerate(shapes_t):
            if ignore[i] and d.intersection(t).area / d.area > 0.5:
                dont_care.add(j)
                break
    taken_t, taken_d = set(), set()
    for i, t in enumerate(shapes_t):
        for j, d in enumerate(shapes_d):
            if i in taken_t or j in taken_d or ignore[i] or j in dont_care:
                continue
            inter = t.intersection(d).area
            if inter / (t.area + d.area - inter) > threshold:
                taken_t.add(i)
                taken_d.add(j)
    return len(taken_t), len(detections) - len(dont_care), sum(not i for i in ignore)


coordinate = st.floats(0, 60, width=32)
side = st.floats(2, 40, width=32)
boxes = st.lists(st.tuples(coordinate, coordinate, side, side, st.floats(0, 3.1)), max_size=12)


@settings(deadline=None, max_examples=150)
@given(boxes, boxes, st.integers(0, 2**12), st.sampled_from([0.3, 0.5, 0.75]))
def test_counts_equal_the_slow_version(found, wanted, ignored, threshold):
    detections, truth = [box(*b) for b in found], [box(*b) for b in wanted]
    ignore = [bool(ignored >> i & 1) for i in range(len(truth))]
    got = count(Detections(detections, np.ones(len(detections))), Truth(truth, np.array(ignore, bool)), threshold)
    assert got == slow_count(detections, truth, ignore, threshold)


@settings(deadline=None, max_examples=60)
@given(boxes, st.integers(0, 1000))
def test_shifted_copies_match_their_originals(wanted, seed):
    """Detections near the truth, in any order: the one-to-one matching is consistent both ways."""
    truth = [box(*b) for b in wanted]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(truth))
    found = [truth[i] + rng.normal(0, 0.3, 2).astype(np.float32) for i in order]
    result = match_pairs(pair(found, truth), np.zeros(len(truth), bool))
    for i, j in enumerate(result.truth):
        assert (j >= 0) == (result.iou[i] > 0.5)
        if j >= 0:
            assert result.detection[j] == i
    assert (result.truth >= 0).sum() == (result.detection >= 0).sum()


def test_a_detection_on_ignored_text_does_not_count():
    truth = Truth([box(50, 50, 40, 10), box(50, 80, 40, 10)], np.array([False, True]))
    found = Detections([box(50, 50, 40, 10), box(45, 80, 20, 8), box(50, 120, 40, 10)], np.ones(3))
    assert count(found, truth) == (1, 2, 1)


def test_two_detections_of_one_text_are_one_hit_and_one_miss():
    truth = Truth([box(50, 50, 40, 10)], np.zeros(1, bool))
    assert count(Detections([box(50, 50, 40, 10), box(51, 50, 40, 10)], np.ones(2)), truth) == (1, 2, 1)


def test_exactly_half_overlap_does_not_match():
    truth = Truth([box(0, 0, 10, 10)], np.zeros(1, bool))
    assert count(Detections([box(0, 0, 10, 5)], np.ones(1)), truth)[0] == 0


@pytest.mark.parametrize(
    "counts, wanted",
    [
        ((0, 0, 0), (1.0, 1.0, 1.0)), ((0, 5, 0), (0.0, 0.0, 0.0)), ((0, 0, 5), (0.0, 0.0, 0.0)),
        ((0, 3, 5), (0.0, 0.0, 0.0)), ((3, 4, 6), (0.75, 0.5, 0.6)),
    ],
)  # fmt: skip
def test_scores_of_counts(counts, wanted):
    assert tuple(plain(*counts).values()) == pytest.approx(wanted)


def test_an_image_without_text_has_nothing_to_miss():
    """As ICDAR's script has it: recall 1 of the sample, precision by what was found; pooled figures by counts alone."""
    word = box(50, 50, 40, 10)
    empty, some = Truth([], np.zeros(0, bool)), Truth([word], np.zeros(1, bool))
    ignored = Truth([word], np.ones(1, bool))
    none, one, lost = Detections([], np.zeros(0)), Detections([word], np.ones(1)), Detections([word + 90], np.ones(1))
    figures = [
        all_metrics().update([found], [truth]).image_scores[0]
        for found, truth in ((one, empty), (none, empty), (lost, ignored), (one, ignored), (lost, some))
    ]
    got = [(f["recall"], f["precision"], f["hmean"]) for f in figures]
    assert got == [(1, 0, 0), (1, 1, 1), (1, 0, 0), (1, 1, 1), (0, 0, 0)]
    evaluation = all_metrics()
    assert evaluation.update([one, none], [empty, empty]).scores["recall"] == 1
    assert evaluation.compute()[0]["recall"] == 0
    evaluation.update([one], [some])
    values = evaluation.compute()[0]
    assert values["recall"] == 1 and values["precision"] == 0.5


def test_degenerate_polygons_match_nothing_and_fail_nothing():
    line, bow, nan = [[0, 0], [5, 5], [9, 9]], [[0, 0], [9, 9], [9, 0], [0, 9]], [[0, 0], [np.nan, 1], [2, 2]]
    found = Detections([np.array(p, np.float32) for p in (line, bow, nan)], np.ones(3))
    assert count(found, Truth([box(5, 5, 9, 9)], np.zeros(1, bool))) == (0, 3, 1)


def test_pooled_over_images_and_merged_over_ranks(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    images = []
    for _ in range(6):
        truth = [box(*rng.uniform(20, 80, 2), 20, 8) for _ in range(5)]
        found = [p + rng.normal(0, 2, 2).astype(np.float32) for p in truth[: rng.integers(1, 6)]]
        images.append((Detections(found, np.ones(len(found))), Truth(truth, np.zeros(5, bool))))
    whole, *ranks = all_metrics(), all_metrics(), all_metrics()
    whole.update(*zip(*images))
    for k, (d, t) in enumerate(images):
        ranks[k % 2].update([d], [t])
    pooled = whole.compute()
    totals = np.sum([slow_count(d.polygons, t.polygons, [False] * 5, 0.5) for d, t in images], axis=0)
    assert pooled[0]["hmean"] == pytest.approx(plain(*totals)["hmean"])
    monkeypatch.setattr(collection, "gather_objects", lambda totals: [rank.totals for rank in ranks])
    merged = ranks[0].compute()
    assert {k: v.item() for k, v in merged[0].items()} == pytest.approx({k: v.item() for k, v in pooled[0].items()})
    assert merged[1] == pooled[1]


def test_lists_of_different_length_are_an_error():
    with pytest.raises(ValueError, match="shorter"):
        evaluate(Hmean(), [Detections([], np.zeros(0))], [])
