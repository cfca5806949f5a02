"""Offsets between text and kernel: the formulas undo one another where they should."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from ocr.errors import UserError
from ocr.geometry.offsets import check_unclip, short_side, shrink_distance, unclip_distance

side = st.floats(4, 2000)


@given(side, side)
def test_short_side_of_a_rectangle(w, h):
    assert float(short_side(w * h, 2 * (w + h))) == pytest.approx(min(w, h), rel=1e-6)


@given(side, side, st.floats(0.2, 0.9))
def test_exact_unclipping_undoes_the_shrinking_of_a_rectangle(w, h, ratio):
    distance = float(shrink_distance(w * h, 2 * (w + h), ratio))
    kernel_w, kernel_h = w - 2 * distance, h - 2 * distance
    assert kernel_w > 0 and kernel_h > 0
    back = unclip_distance(kernel_w * kernel_h, 2 * (kernel_w + kernel_h), "exact", ratio)
    assert float(back) == pytest.approx(distance, rel=1e-5)


def test_the_published_ratio_is_not_the_inverse():
    """The reason for ``exact``: what suits a line of ten by one is a third too small for a square."""
    errors = []
    for w, h in ((100, 10), (10, 10)):
        distance = float(shrink_distance(w * h, 2 * (w + h), 0.4))
        kernel = shapely.box(0, 0, w - 2 * distance, h - 2 * distance)
        errors.append(float(unclip_distance(kernel.area, kernel.length, "ratio", 1.5)) / distance)
    assert abs(errors[0] - errors[1]) > 0.2


def test_many_kernels_at_once():
    area, perimeter = np.array([100.0, 400.0, 0.0]), np.array([40.0, 100.0, 10.0])
    for unclip, amount in (("ratio", 1.5), ("exact", 0.4)):
        together = unclip_distance(area, perimeter, unclip, amount)
        alone = [float(unclip_distance(a, p, unclip, amount)) for a, p in zip(area, perimeter)]
        np.testing.assert_allclose(together, alone)
        assert together[2] == pytest.approx(0)


@pytest.mark.parametrize("kind, amount", [("ratio", 0), ("exact", 1.0), ("ratio", True), ("x", 1.0)])
def test_amounts_out_of_range(kind, amount):
    with pytest.raises(UserError, match="unclip"):
        check_unclip("unclip", kind, amount)
