from __future__ import annotations

import cv2
import numpy as np
import pytest

from ocr.data.synthetic.camera import LIGHT_EFFECTS, simulate_camera
from ocr.data.synthetic.effects import EFFECTS, Curl, bend


def test_a_bent_page_shows_its_points_where_they_are_said_to_be_seen():
    rng = np.random.default_rng(0)
    for seed in range(5):
        curl = Curl.draw(600, 900, 1.0, np.random.default_rng(seed))
        points = rng.uniform(100, 500, (30, 2))
        seen = curl.seen(points)
        np.testing.assert_allclose(seen + curl.shift(seen), points, atol=0.05)
        assert np.abs(seen - points).max() > 1
        page = np.full((900, 600), 255, np.uint8)
        cv2.circle(page, (300, 400), 6, 0, -1)
        ys, xs = np.nonzero(bend(page, curl) < 80)
        centre = np.array([xs.mean(), ys.mean()]) + 0.5
        assert np.linalg.norm(centre - curl.seen(np.array([[300.5, 400.5]]))[0]) < 1.5


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_changes_the_picture_and_labels_stay_on_their_text(effect: str):
    page = np.full((700, 500, 3), 245, np.uint8)
    page[300:340, 150:330] = 15
    polygon = np.array([[150, 300], [330, 300], [330, 340], [150, 340]], np.float32)
    plain = simulate_camera(page, np.random.default_rng(4), 0.8, {effect: 0.0})
    photo = simulate_camera(page, np.random.default_rng(4), 0.8, {effect: 1.0})
    assert plain.size != photo.size or (cv2.imdecode(plain.jpeg, 1) != cv2.imdecode(photo.jpeg, 1)).any()
    [seen] = photo.project_polygons([polygon])
    image = cv2.imdecode(photo.jpeg, cv2.IMREAD_GRAYSCALE).astype(float)
    mask = np.zeros(image.shape, np.uint8)
    cv2.fillPoly(mask, [np.round(seen - 0.5).astype(np.int32)], 1)
    inner = cv2.erode(mask, np.ones((9, 9))) > 0
    ring = (cv2.dilate(mask, np.ones((25, 25))) - cv2.dilate(mask, np.ones((13, 13)))) > 0
    assert image[inner].mean() < image[ring].mean() - 30
    assert len(seen) == (16 if effect == "curl" else 4)


@pytest.mark.parametrize("effect", LIGHT_EFFECTS)
def test_light_keeps_the_kind_of_a_picture(effect: str):
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    changed = LIGHT_EFFECTS[effect](image, 1.0, np.random.default_rng(2))
    assert changed.dtype == np.uint8 and changed.shape == image.shape and (changed != image).any()
