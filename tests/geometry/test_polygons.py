from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from ocr.geometry.polygons import (
    clip_to_image,
    flatten,
    normal_form,
    normal_quads,
    signed_areas,
    to_shapely,
    unflatten,
    untangle_quad,
)  # fmt: skip

rectangles = st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(2, 60)] * 2, st.integers(0, 3), st.booleans())


def corners(x: int, y: int, w: int, h: int) -> np.ndarray:
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


@given(rectangles)
def test_normal_form_forgets_start_and_direction(drawn):
    x, y, w, h, start, backwards = drawn
    wanted = corners(x, y, w, h)
    given_ = np.roll(wanted, start, axis=0)
    given_ = given_[::-1] if backwards else given_
    np.testing.assert_array_equal(normal_form(given_), wanted)
    np.testing.assert_array_equal(normal_form(np.vstack([given_, given_[:1]])), wanted)  # closed by its first point
    sound, normal = normal_quads(given_[None], 200, 200)
    assert sound.all()
    np.testing.assert_array_equal(normal[0], wanted)


@given(st.lists(st.tuples(*[st.integers(-20, 120)] * 8), min_size=1, max_size=8))
def test_fast_and_plain_way_agree_on_random_quads(drawn):
    quads = np.array(drawn, np.float32).reshape(-1, 4, 2)
    sound, normal = normal_quads(quads, 100, 100)
    for quad, is_sound, fast in zip(quads, sound, normal, strict=True):
        shape = shapely.Polygon(quad)
        if is_sound:
            assert shape.is_valid and shape.area >= 1 and shapely.box(0, 0, 100, 100).covers(shape)
            np.testing.assert_array_equal(fast, normal_form(quad))


def test_flat_and_back_and_areas():
    polygons = [corners(0, 0, 10, 5), np.array([[0, 0], [0, 4], [4, 0]], np.float32)]
    points, offsets = flatten(polygons)
    for a, b in zip(unflatten(points, offsets), polygons, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(signed_areas(polygons), [50, -8])
    np.testing.assert_allclose(shapely.area(to_shapely(polygons)), [50, 8])
    assert len(to_shapely([])) == 0


def test_untangle_and_clip():
    a, b, c, d = corners(10, 10, 30, 8)
    np.testing.assert_array_equal(untangle_quad(np.array([a, c, b, d])), corners(10, 10, 30, 8))
    np.testing.assert_array_equal(clip_to_image(corners(-10, 10, 30, 8), 100, 100), corners(0, 10, 20, 8))
    assert clip_to_image(corners(200, 10, 30, 8), 100, 100) is None
