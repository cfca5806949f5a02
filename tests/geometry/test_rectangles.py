from __future__ import annotations

import numpy as np
import pytest
import shapely

from ocr.geometry.rectangles import Rectangles, areas, areas_and_perimeters, offset_polygons

DUMBBELL = np.array([[0, 0], [20, 0], [20, 8], [40, 8], [40, 0], [60, 0], [60, 20], [40, 20], [40, 12], [20, 12],
                     [20, 20], [0, 20]], np.float32)  # fmt: skip


def polygons(seed: int, bend: int) -> list[np.ndarray]:
    """Turned rectangles, every other one with a corner that is off."""
    rng, found = np.random.default_rng(seed), []
    for k in range(12):
        half, angle = rng.uniform(2, 40, 2) / 2, rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half) @ turn.T + rng.uniform(0, 200, 2)
        corners[2] += bend * (k % 2)
        found.append(corners.astype(np.float32))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bend", [0, 4], ids=["rectangles", "with quadrangles"])
def test_moved_outlines_are_those_of_shapely(seed: int, bend: int):
    texts = polygons(seed, bend)
    rectangles = Rectangles.of(texts)
    assert rectangles.exact.sum() == (6 if bend else 12)
    shapes = shapely.polygons([shapely.linearrings(p) for p in texts])
    area, perimeter = areas_and_perimeters(texts, rectangles)
    np.testing.assert_allclose(area, shapely.area(shapes), rtol=1e-4)
    np.testing.assert_allclose(perimeter, shapely.length(shapes), rtol=1e-4)
    for share in (-0.45, -0.7, 0.3, 0.0):  # of half a side: the second leaves nothing of some
        distances = share * np.sqrt(area)
        outlines, owner = offset_polygons(texts, rectangles, distances)
        wanted = shapely.buffer(shapes, distances, join_style="mitre")
        assert sorted(owner.tolist()) == np.flatnonzero(~shapely.is_empty(wanted)).tolist()
        for outline, k in zip(outlines, owner, strict=True):
            off = shapely.symmetric_difference(shapely.Polygon(outline), wanted[k]).area
            assert off < 1e-3 * (1 + wanted[k].length)
        found = areas(outlines, owner)
        np.testing.assert_allclose(found, shapely.area(wanted)[: len(found)], rtol=1e-3, atol=1e-3)


def test_a_polygon_may_leave_two_outlines_or_none():
    thin = np.array([[0, 0], [30, 0], [30, 2], [0, 2]], np.float32)
    texts = [thin, DUMBBELL, thin + 40]
    outlines, owner = offset_polygons(texts, Rectangles.of(texts), np.array([-1.5, -3.0, 1.0]))
    assert sorted(owner.tolist()) == [1, 1, 2]
    sides = [np.ptp(outline, axis=0).tolist() for outline, k in zip(outlines, owner) if k == 1]
    assert sides == [[14, 14], [14, 14]]
    np.testing.assert_allclose(areas(outlines, owner), [0, 2 * 14 * 14, 32 * 4])


def test_nothing_to_move():
    outlines, owner = offset_polygons([], Rectangles.of([]), np.zeros(0))
    assert outlines == [] and len(owner) == 0
    assert [len(v) for v in areas_and_perimeters([], Rectangles.of([]))] == [0, 0]
    assert offset_polygons([DUMBBELL], Rectangles.of([DUMBBELL]), np.array([-50.0]))[0] == []
