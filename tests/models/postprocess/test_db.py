from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import shapely

from ocr.errors import UserError
from ocr.models.postprocess.db import detect, find_candidates, find_polygons, mean_inside
from ocr.pipeline import Pipeline, PostProcess, ResizePolicy

PARAMS = PostProcess(0.3, 0.5, "ratio", 2.0, 3, 1000, "quad")


def blob(x: int, y: int, w: int, h: int, value: float = 0.9, size: tuple[int, int] = (200, 300)) -> np.ndarray:
    probability = np.zeros(size, np.float32)
    probability[y : y + h, x : x + w] = value
    return probability


def test_a_rectangle_grows_by_area_times_ratio_over_perimeter():
    [polygon], [score] = find_polygons(blob(50, 60, 101, 11), PARAMS)
    distance = 101 * 11 * 2.0 / (2 * (101 + 11))
    wanted = shapely.box(50 - distance, 60 - distance, 151 + distance, 71 + distance)
    assert shapely.Polygon(polygon).symmetric_difference(wanted).area < 1e-2
    assert score == pytest.approx(0.9)


def test_outline_of_a_curved_text_is_not_a_rectangle():
    probability = np.zeros((200, 300), np.float32)
    cv2.ellipse(probability, (150, 180), (100, 100), 0, 200, 340, 1.0, 8)
    [quad], _ = find_polygons(probability, PARAMS)
    [outline], _ = find_polygons(probability, replace(PARAMS, shape="polygon"))
    assert len(quad) == 4 and len(outline) > 8
    assert shapely.Polygon(outline).is_valid
    assert shapely.Polygon(outline).area < 0.5 * shapely.Polygon(quad).area
    ys, xs = np.nonzero(probability)
    assert shapely.contains_xy(shapely.Polygon(outline), xs + 0.5, ys + 0.5).all()


def test_score_is_the_mean_inside_the_contour():
    probability = blob(10, 10, 20, 6, 0.8)
    probability[12, 15:20] = 0.4
    contour = np.array([[10, 10], [29, 10], [29, 15], [10, 15]], np.int32)
    assert mean_inside(probability, contour) == pytest.approx(probability[10:16, 10:30].mean())


@pytest.mark.parametrize(
    "change, found",
    [({}, 3), ({"thresh": 0.65}, 2), ({"box_thresh": 0.85}, 1), ({"min_size": 8}, 1), ({"max_candidates": 1}, 1)],
)
def test_parameters_do_what_they_say(change: dict, found: int):
    probability = np.maximum(blob(10, 10, 60, 5, 0.9), blob(10, 50, 60, 5, 0.8)) + blob(10, 100, 60, 12, 0.6)
    assert len(find_polygons(probability, replace(PARAMS, **change))[0]) == found


def test_a_hole_in_a_kernel_is_no_text_and_a_kernel_in_a_hole_is():
    probability = blob(10, 10, 100, 12)
    probability[14:18, 50:54] = 0.1
    [polygon], _ = find_polygons(probability, PARAMS)
    assert shapely.Polygon(polygon).contains(shapely.box(10, 10, 110, 22))
    frame = blob(10, 10, 200, 150)
    frame[20:150, 20:200] = 0
    [polygon], _ = find_polygons(np.maximum(frame, blob(60, 60, 80, 10)), PARAMS)  # the frame's own score is low
    assert shapely.Polygon(polygon).contains(shapely.box(60, 60, 140, 70)) and shapely.Polygon(polygon).area < 5000


def test_max_candidates_keeps_the_largest():
    probability = blob(10, 10, 20, 5) + blob(10, 100, 90, 9)
    [polygon], _ = find_polygons(probability, replace(PARAMS, max_candidates=1))
    assert polygon[:, 1].min() > 80


def test_polygons_are_in_the_original_pixels_and_padding_is_not_read():
    pipeline = Pipeline(ResizePolicy(320, 32, 1.0), PARAMS, (0.5,) * 3, (0.2,) * 3)
    width, height = 900, 1200  # to 240 x 320, padded to 256 x 320
    probability = np.zeros((320, 256), np.float32)
    probability[100:105, 40:140] = 0.9
    probability[200:210, 236:256] = 0.9  # a few pixels of content, then padding
    found = detect(probability, width, height, pipeline)
    assert len(found) == 2
    scale = 900 / 240
    centre = min((p.mean(axis=0) for p in found.polygons), key=lambda c: c[1])
    np.testing.assert_allclose(centre, [90 * scale, 102.5 * scale], atol=1e-3)
    assert all((p >= 0).all() and (p <= (width, height)).all() for p in found.polygons)
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("shape", ["quad", "polygon"])
@pytest.mark.parametrize("fill", [0.0, 1.0, None])
def test_strange_maps_do_not_fail(shape: str, fill: float | None):
    rng = np.random.default_rng(0)
    probability = rng.random((64, 96)).astype(np.float32) if fill is None else np.full((64, 96), fill, np.float32)
    polygons, scores = find_polygons(probability, replace(PARAMS, shape=shape))
    assert len(polygons) == len(scores)
    assert all(len(p) >= 3 and np.isfinite(p).all() for p in polygons)
    if fill == 0.0:
        assert not polygons


@pytest.mark.parametrize(
    "change",
    [
        {"thresh": 1.2},
        {"box_thresh": -1},
        {"unclip_ratio": 0},
        {"shape": "circle"},
        {"unclip": "area"},
        {"unclip": "exact", "unclip_ratio": 1.0},
        {"unclip": "height", "unclip_ratio": 0.2},
    ],
)
def test_parameters_out_of_range(change: dict):
    with pytest.raises(UserError):
        replace(PARAMS, **change)


def test_pipeline_survives_plain_types_and_rejects_others():
    pipeline = Pipeline(ResizePolicy(320, 32, 1.0), PARAMS, (0.5,) * 3, (0.2,) * 3)
    plain = pipeline.to_dict()
    assert Pipeline.from_dict(plain) == pipeline
    with pytest.raises(UserError, match="unclip_ratio"):
        Pipeline.from_dict(plain | {"postprocess": plain["postprocess"] | {"clip": 1}})
    with pytest.raises(UserError, match="format 99"):
        Pipeline.from_dict(plain | {"format_version": 99})
    with pytest.raises(UserError, match="channels"):
        Pipeline.from_dict(plain | {"channels": "grey"})


def test_an_outline_is_offset_like_a_rectangle_with_round_corners():
    [outline], _ = find_polygons(blob(50, 60, 101, 13), replace(PARAMS, shape="polygon"))
    distance = 101 * 13 * 2.0 / (2 * (101 + 13))
    expected = shapely.box(50, 60, 151, 73).buffer(distance)
    found = shapely.Polygon(outline)
    assert found.symmetric_difference(expected).area < 0.02 * expected.area
    assert (found.centroid.x, found.centroid.y) == pytest.approx((100.5, 66.5), abs=0.05)


def test_an_outline_follows_a_disc():
    probability = np.zeros((300, 300), np.float32)
    cv2.circle(probability, (150, 150), 80, 1.0, -1)
    [outline], _ = find_polygons(probability, replace(PARAMS, shape="polygon", unclip_ratio=0.2))
    expected = shapely.Point(150.5, 150.5).buffer(80.5 * 1.1, quad_segs=64)
    assert shapely.Polygon(outline).symmetric_difference(expected).area < 0.015 * expected.area


def test_limits_are_inclusive_where_they_say_so():
    assert not len(find_candidates(blob(10, 10, 40, 8, 0.5), 0.5, 3, 10).scores), "above thresh, not at it"
    assert len(find_candidates(blob(10, 10, 40, 8), 0.5, 8, 10).scores) == 1, "a side of min_size is kept"
    assert not len(find_candidates(blob(10, 10, 40, 8), 0.5, 9, 10).scores)


def test_the_hole_of_the_only_kernel_is_no_candidate():
    probability = blob(10, 10, 100, 40)
    probability[20:40, 30:90] = 0
    assert len(find_candidates(probability, 0.3, 3, 10).scores) == 1
