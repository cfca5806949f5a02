"""Areas by array operations against shapely's, one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from ocr.geometry.convex import convex, intersection_areas, one_way_round, signed_areas
from ocr.metrics.matching import pair

SQUARE = np.array([[0, 0], [4, 0], [4, 2], [0, 2]], np.float64)


def random_quads(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    quads = rng.uniform(0, 10, (8 * count, 4, 2))
    return one_way_round(quads[convex(quads)][:count])


def by_shapely(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return shapely.area(shapely.intersection(shapely.polygons(a), shapely.polygons(b)))


def test_random_quadrangles_share_what_shapely_says():
    a, b = random_quads(1000, 1), random_quads(1000, 2)
    wanted = by_shapely(a, b)
    assert 0.5 < (wanted > 0).mean() < 1
    np.testing.assert_allclose(intersection_areas(a, b), wanted, atol=1e-5)
    np.testing.assert_allclose(intersection_areas(a + 5000, b + 5000), wanted, atol=1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, np.pi / 2])
@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 1), (4, 0), (0, 2), (4, 2), (1, 0.5), (9, 9), (-4, 0)])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_boxes_with_edges_in_common(angle: float, shift: tuple[float, float], kind: type):
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    a, b = (((SQUARE + move) @ turn + 800).astype(kind).astype(np.float64) for move in ((0, 0), shift))
    wanted = max(0, 4 - abs(shift[0])) * max(0, 2 - abs(shift[1]))
    tolerance = 1e-6 if kind is np.float64 else 2e-3
    assert intersection_areas(a[None], b[None])[0] == pytest.approx(wanted, abs=tolerance)


def test_one_inside_the_other_and_no_pairs():
    assert intersection_areas(SQUARE[None], SQUARE[None] * 0.25 + 0.5)[0] == pytest.approx(0.5)
    assert intersection_areas(np.zeros((0, 4, 2)), np.zeros((0, 4, 2))).shape == (0,)
    assert signed_areas(SQUARE[None, ::-1])[0] == -8 and signed_areas(one_way_round(SQUARE[None, ::-1]))[0] == 8


def test_shapes_of_all_kinds_in_one_image():
    """Quads that are convex, dented, crossed or flat, and other polygons: each pair as shapely has it."""
    dented, crossed = SQUARE.copy(), SQUARE[[0, 2, 1, 3]]
    dented[2] = (1, 0.5)
    flat, hexagon = SQUARE * (1, 0), np.array([[0, 1], [1, 0], [3, 0], [4, 1], [3, 2], [1, 2]], np.float64)
    polygons = [SQUARE, SQUARE[::-1] + 1, dented, crossed, flat, hexagon, np.full((4, 2), np.nan)]
    pairs = pair(polygons, polygons)
    table = pairs.dense()
    wanted = shapely.area(shapely.intersection(pairs.truths[:, None], pairs.detections[None]))
    np.testing.assert_allclose(table, wanted, atol=1e-6)
    np.testing.assert_allclose(pairs.area_d, shapely.area(pairs.detections), atol=1e-9)
