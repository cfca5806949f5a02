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
from ocr.models.tta import TestTimeAugmentation, spans
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
        in_all = side + (len(parts) - 1) * -(-overlap // 32) * 32
        assert len(parts) * parts[0][1] < in_all + 32 * len(parts), "no longer than they must be"


@pytest.mark.parametrize("network", [darkness, blurred])
def test_lines_over_seams_stay_whole(page: torch.Tensor, network):
    seen = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape[2:]))
        return network(images)

    whole = TestTimeAugmentation().run(network, page, 32)
    tiled = TestTimeAugmentation(tile=224, overlap=96).run(counted, page, 32)
    assert len(seen) > 6 and all(max(size) <= 224 for size in seen)
    assert (whole - tiled).abs().max() < (1e-6 if network is darkness else 0.06)
    for a, b in zip(whole, tiled):
        polygons = [find_polygons(np.ascontiguousarray(m[0]), POST)[0] for m in (a, b)]
        assert len(polygons[0]) == 10
        np.testing.assert_allclose(np.stack(polygons[0]), np.stack(polygons[1]), atol=0.01)


@pytest.mark.parametrize("settings", [{"rotations": (90, 180, 270)}, {"rotations": (90,), "merge": "max"}])
def test_rotated_maps_come_back_to_their_place(page: torch.Tensor, settings: dict):
    torch.testing.assert_close(TestTimeAugmentation(**settings).run(blurred, page, 32), blurred(page))


def test_mean_and_max_differ_where_passes_do():
    image = torch.zeros(1, 3, 32, 64)
    image[..., 32:] = 1

    def left_only(images: torch.Tensor) -> torch.Tensor:
        return images[:, :1] * (torch.arange(64) < 32)

    mean = TestTimeAugmentation(rotations=(180,)).run(left_only, image, 32)
    most = TestTimeAugmentation(rotations=(180,), merge="max").run(left_only, image, 32)
    assert (float(mean.max()), float(most.max())) == (0.5, 1.0)


@pytest.mark.parametrize(
    "changes", [{"rotations": [45]}, {"merge": "sum"}, {"tile": 64, "overlap": 64}, {"tile": "big"}, {"rotations": 90}]
)
def test_wrong_settings_are_refused_by_name(changes: dict):
    with pytest.raises(UserError, match=f"tta.{next(iter(changes))}"):
        TestTimeAugmentation(**changes)


def test_later_settings_override_single_ones_and_only_changes_are_kept():
    tuned = TestTimeAugmentation.from_settings({"rotations": [90], "merge": "max"})
    assert tuned.changed() == {"rotations": [90], "merge": "max"}
    again = TestTimeAugmentation.from_settings(tuned.changed(), {"merge": "mean", "tile": None})
    assert again == TestTimeAugmentation(rotations=(90,))
    assert TestTimeAugmentation.from_settings(None, {}) == TestTimeAugmentation()
    assert TestTimeAugmentation().changed() == {}
    with pytest.raises(UserError, match="zoom"):
        TestTimeAugmentation.from_settings({"zoom": 2})


def test_long_scans_keep_the_size_of_their_print():
    policy = ResizePolicy(1280, 32, 2.0, max_aspect=4)
    assert policy.content_size(800, 3200) == (320, 1280)
    assert policy.content_size(800, 9600) == (320, 3840)
    assert policy.content_size(9600, 800) == (3840, 320)
    assert ResizePolicy(1280, 32, 2.0).content_size(800, 9600) == (107, 1280)
    with pytest.raises(UserError, match="max_aspect"):
        ResizePolicy(1280, 32, 2.0, max_aspect=0.5)
