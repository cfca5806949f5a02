from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ocr.errors import UserError
from ocr.models.postprocess.db import find_polygons
from ocr.models.tta import Views, spans
from ocr.pipeline import PostProcess, ResizePolicy

POST = PostProcess(0.5, 0.5, "ratio", 1.5, 3, 1000, "quad")


def darkness(images: torch.Tensor) -> torch.Tensor:
    """A network that looks at single pixels."""
    return 1 - images.mean(1, keepdim=True)


def blurred(images: torch.Tensor) -> torch.Tensor:
    """A network that looks at 7 x 7 pixels and sees zeros beyond the edge."""
    return F.avg_pool2d(darkness(images), 7, 1, 3)


@pytest.fixture
def page() -> torch.Tensor:
    """Lines of text as dark bars, one as long as the page is wide; float (2, 3, 416, 608)."""
    page = np.ones((416, 608), np.float32)
    for k, y in enumerate(range(20, 390, 40)):
        page[y : y + 12, 10 : 590 if k % 2 else 150 + 40 * k] = 0
    page = torch.from_numpy(page).expand(3, -1, -1)
    return torch.stack([page, page.flip(1)])


@given(st.integers(1, 60), st.integers(1, 30), st.integers(0, 300))
def test_tiles_cover_all_with_the_overlap_and_keep_to_the_size(side: int, tile: int, overlap: int):
    side, tile = side * 32, tile * 32
    parts = spans(side, tile, overlap, 32)
    assert parts[0][0] == 0 and parts[-1][1] == side
    assert len({end - start for start, end in parts}) == 1
    assert all(start % 32 == 0 for start, _ in parts)
    assert all(a[1] - b[0] >= overlap and a[0] < b[0] for a, b in pairwise(parts))
    if tile > overlap + 64:
        assert parts[0][1] <= tile


@pytest.mark.parametrize("network", [darkness, blurred])
def test_lines_over_seams_stay_whole(page: torch.Tensor, network):
    seen = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape[2:]))
        return network(images)

    whole = Views().run(network, page, 32)
    tiled = Views(tile=224, overlap=96).run(counted, page, 32)
    assert len(seen) > 6 and all(max(size) <= 224 for size in seen)
    assert (whole - tiled).abs().max() < (1e-6 if network is darkness else 0.06)
    for a, b in zip(whole, tiled):
        polygons = [find_polygons(np.ascontiguousarray(m[0]), POST)[0] for m in (a, b)]
        assert len(polygons[0]) == 10
        np.testing.assert_allclose(np.stack(polygons[0]), np.stack(polygons[1]), atol=0.01)


@pytest.mark.parametrize(
    "views", [Views(flips=("horizontal", "vertical")), Views(turns=(90, 180, 270)), Views(turns=(90,), merge="max")]
)
def test_flips_and_turns_come_back_to_their_place(page: torch.Tensor, views: Views):
    torch.testing.assert_close(views.run(blurred, page, 32), blurred(page))


def test_scales_come_back_to_their_place(page: torch.Tensor):
    sizes = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(images.shape[2:]))
        return darkness(images)

    merged = Views(scales=(1.0, 0.7)).run(counted, page, 32)
    assert sizes == [(416, 608), (320, 448)]
    whole, both = (find_polygons(np.ascontiguousarray(m[0, 0]), POST)[0] for m in (darkness(page), merged))
    assert len(whole) == len(both)
    assert np.abs(np.stack(whole) - np.stack(both)).max() < 2.5


def test_mean_and_max_differ_where_views_do():
    image = torch.zeros(1, 3, 32, 64)
    image[..., 32:] = 1

    def left_only(images: torch.Tensor) -> torch.Tensor:
        return images[:, :1] * (torch.arange(64) < 32)

    mean = Views(flips=("horizontal",)).run(left_only, image, 32)
    most = Views(flips=("horizontal",), merge="max").run(left_only, image, 32)
    assert (float(mean.max()), float(most.max())) == (0.5, 1.0)


@pytest.mark.parametrize(
    "changes", [{"scales": []}, {"scales": [1.5]}, {"flips": ["up"]}, {"turns": [45]}, {"merge": "sum"},
                {"tile": 64, "overlap": 64}, {"tile": "big"}, {"flips": "horizontal"}, {"turns": 90}]
)  # fmt: skip
def test_what_cannot_be_is_said(changes: dict):
    with pytest.raises(UserError, match=f"views.{next(iter(changes))}"):
        Views(**changes)


def test_later_settings_change_single_ones_and_only_changes_are_kept():
    tuned = Views.of({"scales": [1.0, 0.5], "merge": "max"})
    assert tuned.changed() == {"scales": [1.0, 0.5], "merge": "max"}
    assert Views.of(tuned.changed(), {"merge": "mean", "tile": None}) == Views(scales=(1.0, 0.5))
    assert Views.of(None, {}) == Views() and Views().changed() == {}
    with pytest.raises(UserError, match="zoom"):
        Views.of({"zoom": 2})


def test_long_scans_keep_the_size_of_their_print():
    policy = ResizePolicy(1280, 32, 2.0, max_aspect=4)
    assert policy.content_size(800, 3200) == (320, 1280)
    assert policy.content_size(800, 9600) == (320, 3840)
    assert policy.content_size(9600, 800) == (3840, 320)
    assert ResizePolicy(1280, 32, 2.0).content_size(800, 9600) == (107, 1280)
    with pytest.raises(UserError, match="max_aspect"):
        ResizePolicy(1280, 32, 2.0, max_aspect=0.5)
