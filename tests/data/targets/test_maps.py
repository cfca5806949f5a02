from __future__ import annotations

import cv2
import numpy as np
import pytest
import shapely

from ocr.data.targets.maps import SHRINK_MAP, SHRINK_MASK, THRESH_MAP, THRESH_MASK, TargetMaker
from ocr.errors import UserError
from ocr.metrics.hmean import Hmean
from ocr.metrics.protocol import evaluate
from ocr.models.postprocess.db import detect
from ocr.types import Truth


def rectangle(x: float, y: float, w: float, h: float, angle: float = 0) -> np.ndarray:
    points = np.array([[0, 0], [w, 0], [w, h], [0, h]]) - (w / 2, h / 2)
    a = np.radians(angle)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return (points @ turn.T + (x + w / 2, y + h / 2)).astype(np.float32)


def slow_threshold_map(polygon: np.ndarray, ratio: float, size: int, square: bool) -> np.ndarray:
    """The formula written out a pixel at a time: 1 - distance / D, never below 0.

    The distance is that to the outline; where ``square``, that to the farthest-off of the sides' lines, which is the
    same but around the corners of a convex polygon.
    """
    shape = shapely.Polygon(polygon)
    offset = shape.area * (1 - ratio**2) / shape.length
    sides = np.roll(polygon, -1, axis=0) - polygon
    outward = np.stack([sides[:, 1], -sides[:, 0]], axis=1) / np.linalg.norm(sides, axis=1)[:, None]
    out = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            point = np.array([x + 0.5, y + 0.5])
            distance = shape.exterior.distance(shapely.Point(point))
            if square:
                distance = abs(((point - polygon) * outward).sum(axis=1).max())
            out[y, x] = max(0, 1 - distance / offset)
    return out


@pytest.mark.parametrize("angle", [0, 7, 30, 90, 200])
@pytest.mark.parametrize("bulge", [0, 2], ids=["rectangle", "quadrangle"])
def test_maps_follow_the_formula(angle: float, bulge: float):
    polygon = rectangle(30, 50, 70, 24, angle)
    polygon[2] += bulge
    maps = TargetMaker(0.4, 4)([polygon], np.array([False]), 128, 128)
    shape = shapely.Polygon(polygon)
    offset = shape.area * (1 - 0.16) / shape.length
    kernel = shape.buffer(-offset, join_style="mitre")
    assert abs(int(maps[SHRINK_MAP].sum()) - kernel.area) < 0.5 * kernel.length
    wanted = slow_threshold_map(polygon, 0.4, 128, square=not bulge)
    difference = np.abs(maps[THRESH_MAP] / 255 - wanted)
    assert difference.max() < (1.2 if bulge else 0.05) / offset, "pixels of distance"
    assert difference.mean() < (0.015 if bulge else 0.001)
    grown = shape.buffer(offset, join_style="round" if bulge else "mitre")
    assert abs(int(maps[THRESH_MASK].sum()) - grown.area) < (1 if bulge else 0.6) * grown.length
    assert maps[SHRINK_MASK].all()


def test_borders_of_lines_that_meet_are_the_largest_of_each():
    """The fast way against one instance at a time, at random places, partly outside."""
    rng = np.random.default_rng(0)
    polygons = [rectangle(*rng.uniform(-20, 100, 2), *rng.uniform(8, 60, 2), rng.uniform(0, 360)) for _ in range(12)]
    together = TargetMaker(0.4, 4)(polygons, np.zeros(12, bool), 128, 128)
    wanted = np.max([slow_threshold_map(p, 0.4, 128, square=True) for p in polygons], axis=0)
    assert np.abs(together[THRESH_MAP] / 255 - wanted).max() < 0.05


@pytest.mark.parametrize("size", [(8, 16), (6, 9), (14, 14), (40, 14), (200, 14)])
@pytest.mark.parametrize("angle", [0, 30])
def test_a_kernel_has_the_pixels_whose_centres_lie_in_it(size: tuple[float, float], angle: float):
    """cv2 alone gives it one more row and column, a quarter more of what a lone digit has."""
    drawn, shape = [], shapely.Polygon(rectangle(0, 0, *size))
    kernel = shape.buffer(-shape.area * 0.75 / shape.length, join_style="mitre")
    for x, y in np.random.default_rng(0).uniform(0, 1, (200, 2)):
        polygon = rectangle(30 + x, 110 + y, *size, angle)
        drawn.append(TargetMaker(0.5, 3)([polygon], np.array([False]), 240, 256)[SHRINK_MAP].sum())
    assert np.mean(drawn) == pytest.approx(kernel.area, rel=0.05)


def test_ignored_and_small_text_is_masked_and_not_learned():
    polygons = [rectangle(10, 10, 40, 12), rectangle(60, 10, 40, 12), rectangle(10, 60, 30, 3)]
    maps = TargetMaker(0.4, 4)(polygons, np.array([False, True, False]), 96, 128)
    assert maps[SHRINK_MAP][16, 30] == 1 and maps[SHRINK_MASK][16, 30] == 1
    assert maps[SHRINK_MASK][16, 80] == 0 and maps[SHRINK_MAP][:, 60:].sum() == 0
    assert maps[SHRINK_MASK][61, 25] == 0 and maps[SHRINK_MAP][55:].sum() == 0


def test_background_beyond_the_ends_weighs_more_but_nothing_else_does():
    """Two words 12 apart, a third one below beside ignored text."""
    polygons = [
        rectangle(20, 20, 60, 16),
        rectangle(92, 20, 30, 16),
        rectangle(20, 60, 40, 10),
        rectangle(61, 60, 9, 9),
    ]
    ignore = np.array([False, False, False, True])
    plain, weighed = (TargetMaker(0.5, 4, weight)(polygons, ignore, 96, 160) for weight in (1, 5))
    for channel in (SHRINK_MAP, THRESH_MAP, THRESH_MASK):
        assert (plain[channel] == weighed[channel]).all()
    weight = weighed[SHRINK_MASK]
    assert set(np.unique(weight)) == {0, 1, 5} and (weight[plain[SHRINK_MASK] == 0] == 0).all()
    assert (weight[plain[SHRINK_MAP] == 1] == 1).all()
    assert (weight[28, 78:94] == 5).all(), "the gap between neighbours, from kernel to kernel"
    assert weight[28, 14] == 5 and weight[28, 5] == 1, "as far as end_reach, 0.75 of the height"
    assert weight[40:50].max() == 1, "between lines nothing changes"
    assert (weight[62:68, 62:69] == 0).all(), "what is ignored stays so"
    with pytest.raises(UserError, match="end_weight"):
        TargetMaker(0.5, 4, 0)


def test_padding_outside_the_image_is_masked():
    frame = np.array([[0, 0], [50, 0], [50, 40], [0, 40]], np.float32)
    mask = TargetMaker(0.4, 4)([], np.zeros(0, bool), 64, 64, frame)[SHRINK_MASK]
    assert mask[:40, :50].all() and not mask[42:].any() and not mask[:, 52:].any()


def test_text_cut_by_the_edge_has_the_kernel_of_the_whole_line():
    whole = TargetMaker(0.4, 4)([rectangle(20, 20, 100, 16)], np.array([False]), 64, 160)
    cut = TargetMaker(0.4, 4)([rectangle(-40, 20, 100, 16)], np.array([False]), 64, 160)
    for channel in range(4):
        if channel != SHRINK_MASK:
            np.testing.assert_array_equal(cut[channel][:, :100], whole[channel][:, 60:])


def test_random_polygons_anywhere_never_fail():
    rng = np.random.default_rng(0)
    for _ in range(50):
        polygons = [rectangle(*rng.uniform(-80, 140, 2), *rng.uniform(1, 90, 2), rng.uniform(0, 180)) for _ in range(9)]
        maps = TargetMaker(0.4, 4)(polygons, rng.random(9) < 0.2, 96, 128)
        assert maps.shape == (4, 96, 128) and maps[[SHRINK_MAP, SHRINK_MASK, THRESH_MASK]].max() <= 1


def test_perfect_maps_come_back_as_the_labels(pipeline):
    """Targets and post-processing are inverse to one another: a perfect network scores 1."""
    polygons = [rectangle(20, 20 + 30 * k, 60 + 25 * k, 18, 3 * k) for k in range(6)]
    maps = TargetMaker(0.4, 4)(polygons, np.zeros(6, bool), 320, 320)
    found = detect(maps[SHRINK_MAP].astype(np.float32), 320, 320, pipeline)
    assert evaluate(Hmean(), [found], [Truth(polygons, np.zeros(6, bool))])["hmean"] == 1


def test_shrink_ratio_out_of_range():
    with pytest.raises(UserError, match="targets.shrink_ratio must be a ratio between 0 and 1"):
        TargetMaker(1.0, 4)


def test_a_crowded_crop_takes_less_than_a_step_of_the_smallest_network():
    """50 lines at 640 x 640 without per-pixel Python: well under the 0.1 s that a plain loop would take."""
    polygons = [rectangle(20 + 300 * (k % 2), 10 + 25 * (k // 2), 250, 14, 2) for k in range(50)]
    make, ignore = TargetMaker(0.4, 4), np.zeros(50, bool)
    make(polygons, ignore, 640, 640)
    start = cv2.getTickCount()
    for _ in range(5):
        make(polygons, ignore, 640, 640)
    assert (cv2.getTickCount() - start) / cv2.getTickFrequency() / 5 < 0.1


@pytest.mark.parametrize("order", [0, 2])
def test_a_digit_ends_at_its_left_and_right(order: int):
    """A lone 1, higher than wide, whose points start at the top left or at the bottom right; and a vertical line."""
    digit, line = np.roll(rectangle(40, 40, 8, 14), order, axis=0), rectangle(100, 10, 12, 60)
    maps = TargetMaker(0.5, 3, 3)([digit, line], np.array([False, False]), 96, 128)
    weight = maps[SHRINK_MASK]
    assert weight[47, 33] == 3 and weight[47, 55] == 3 and weight[35, 44] == 1 and weight[58, 44] == 1
    assert weight[5, 106] == 3 and weight[40, 96] == 1, "a long text ends at its short sides"


def test_small_texts_and_their_surroundings_weigh_more():
    """A line, a lone digit, and a digit that is ignored."""
    polygons = [rectangle(10, 20, 120, 16), rectangle(140, 20, 8, 14), rectangle(20, 60, 8, 14)]
    ignore = np.array([False, False, True])
    plain, weighed, ends = (
        TargetMaker(0.5, 3, end_weight, balance=balance, balance_limit=3)(polygons, ignore, 96, 160)
        for end_weight, balance in ((1, 0.0), (1, 0.5), (2, 0.5))
    )
    for channel in (SHRINK_MAP, THRESH_MAP, THRESH_MASK):
        assert (plain[channel] == weighed[channel]).all()
    weight = weighed[SHRINK_MASK]
    assert (weight[20:34, 140:148] == 3).all(), "kernel and border alike, so that the kernel does not spread"
    assert (weight[28, 20:120] == 1).all() and weight[50, 80] == 1, "lines and background as ever"
    assert (weight[62:72, 22:26] == 0).all(), "what is ignored stays so"
    assert ends[SHRINK_MASK][28, 144] == 3 and ends[SHRINK_MASK][28, 155] == 2 and ends[SHRINK_MASK].max() == 3
    # (mean / own) ** balance: equal texts weigh alike
    alike = TargetMaker(0.5, 3, balance=1.0)([polygons[0], polygons[0] + (0, 40)], ignore[:2], 96, 160)
    assert alike[SHRINK_MASK].max() == 1
    for wrong in ({"balance": 1.5}, {"balance_limit": 0}):
        with pytest.raises(UserError, match="balance"):
            TargetMaker(0.5, 3, **wrong)


def test_a_text_that_is_too_small_to_learn_changes_no_weights():
    line, digit, speck = rectangle(10, 20, 120, 16), rectangle(140, 20, 8, 14), rectangle(20, 70, 9, 2)
    make = TargetMaker(0.5, 3, balance=0.5, balance_limit=3)
    without = make([line, digit], np.zeros(2, bool), 96, 160)
    for polygons in ([speck, line, digit], [line, speck, digit], [line, digit, speck]):
        found = make(polygons, np.zeros(3, bool), 96, 160)
        np.testing.assert_array_equal(found[:, :60], without[:, :60])
        assert (found[SHRINK_MASK][70:72, 21:28] == 0).all()
