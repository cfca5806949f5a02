from __future__ import annotations

import numpy as np
import pytest

from ocr.data.transforms.decode import resize_and_pad
from ocr.data.transforms.random import RandomGeometry, RandomLight, add_noise, warp_image, warp_points
from ocr.errors import UserError
from ocr.pipeline import ResizePolicy
from ocr.types import Truth


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A bright rectangle on black, and its polygon."""
    image = np.zeros((240, 200, 3), np.uint8)
    image[60:100, 40:150] = 255
    return image, np.array([[40, 60], [150, 60], [150, 100], [40, 100]], np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_polygons_stay_on_the_pixels_they_label(seed: int):
    image, polygon = scene()
    geometry = RandomGeometry((256, 192), (0.6, 1.6), (0.7, 1.4), 20, 1.0)
    truth = Truth([polygon], np.array([False]))
    matrix = geometry.matrix(200, 240, truth, ResizePolicy(320, 32, 4.0), np.random.default_rng(seed))
    crop = warp_image(image, matrix, (256, 192), (0, 0, 0))
    assert crop.shape == (192, 256, 3)
    moved = warp_points(polygon, matrix)
    import shapely

    frame = shapely.box(0, 0, 256, 192)
    seen = shapely.Polygon(moved).intersection(frame)
    # the anti-aliased brightness is the area of the polygon, its centre of mass the polygon's
    weight = crop[..., 0].astype(float) / 255
    assert weight.sum() == pytest.approx(seen.area, rel=0.02, abs=4)
    ys, xs = np.mgrid[:192, :256] + 0.5
    centre = np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()
    np.testing.assert_allclose(centre, [seen.centroid.x, seen.centroid.y], atol=0.35)


def test_the_same_seed_gives_the_same_crop():
    image, polygon = scene()
    geometry, light = RandomGeometry((64, 64), (0.5, 2), (0.8, 1.2), 10, 0.5), RandomLight(0.2, 0.3, 0.5, 0.1, 0.5, 9)
    truth = Truth([polygon], np.array([False]))
    crops = []
    for _ in range(2):
        rng = np.random.default_rng(5)
        matrix = geometry.matrix(200, 240, truth, ResizePolicy(240, 32, 1.0), rng)
        crops.append(light(warp_image(image, matrix, (64, 64), (9, 9, 9)), rng))
    np.testing.assert_array_equal(*crops)


def test_light_changes_pixels_but_not_their_place():
    image, _ = scene()
    image = np.where(image > 0, 180, 60).astype(np.uint8)
    changed = RandomLight(0.2, 0.3, 0.5, 0.1, 0, 0)(image, np.random.default_rng(1))
    assert (changed != image).any()
    inside, outside = changed[60:100, 40:150].reshape(-1, 3), changed[:50].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) == len(np.unique(outside, axis=0)) == 1


@pytest.mark.parametrize("shape", [(300, 500, 3), (300, 500)])
@pytest.mark.parametrize("sigma", [0.0, 2.0, 6.0])
def test_noise_is_normal_and_has_the_asked_spread(sigma: float, shape: tuple[int, ...]):
    noise = add_noise(np.full(shape, 128, np.uint8), sigma, np.random.default_rng(0)).astype(float) - 128
    assert noise.std() == pytest.approx(np.sqrt(sigma**2 + 1 / 12) if sigma else 0, rel=0.03), (
        "and rounded to whole levels"
    )
    assert abs(noise.mean()) < 0.05
    if sigma == 6:
        assert (np.abs(noise) > 2 * sigma).mean() == pytest.approx(0.0455, abs=0.02)


def test_noise_differs_from_channel_to_channel():
    noisy = add_noise(np.full((192, 192, 3), 128, np.uint8), 6.0, np.random.default_rng(0)).reshape(-1, 3)
    assert np.abs(np.corrcoef(noisy.T) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize("width, height", [(463, 1013), (1200, 900), (50, 2000), (31, 17), (640, 640)])
def test_resize_keeps_the_aspect_ratio_and_pads_to_the_multiple(width: int, height: int):
    policy = ResizePolicy(long_side=640, multiple=32, max_upscale=2.0)
    out = resize_and_pad(np.full((height, width, 3), 77, np.uint8), policy, (1, 2, 3))
    content_w, content_h = policy.content_size(width, height)
    assert out.shape[0] % 32 == out.shape[1] % 32 == 0
    assert max(content_w, content_h) == min(640, 2 * max(width, height))
    assert content_w / content_h == pytest.approx(width / height, rel=0.6 / min(content_w, content_h))
    assert (out[:content_h, :content_w] == 77).all()
    assert (out[content_h:] == (1, 2, 3)).all() and (out[:, content_w:] == (1, 2, 3)).all()


@pytest.mark.parametrize(
    "change", [{"scale": (2, 1)}, {"aspect": (0, 1)}, {"crop_size": (100, 64)}, {"crop_size": (64,)}]
)
def test_wrong_geometry(change: dict):
    settings = dict(crop_size=(64, 64), scale=(1, 1), aspect=(1, 1), rotate=0, text_share=1) | change
    with pytest.raises(UserError):
        RandomGeometry(**settings)
