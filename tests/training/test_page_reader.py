"""Small print is read larger."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.data.transforms.decode import UndecodableImage, resize_and_pad
from ocr.metrics.matching import pair
from ocr.models.pretrained.ppocr import weights_file
from ocr.training import page_reader
from ocr.training.loading import load_module
from ocr.training.module import DetectionModule
from ocr.training.page_reader import PageReader
from tests.conftest import found_by


@pytest.fixture(scope="module")
def detector() -> DetectionModule:
    return load_module(weights_file("receipts-small"))


@pytest.fixture(scope="module")
def photo() -> tuple[np.ndarray, list[np.ndarray]]:
    """Six receipts beside one another, uint8 (H, W, 3), and their texts in its pixels."""
    receipts = SyntheticReceipts(6, 5, 0.3, style="shop")
    photo, texts = np.full((2400, 3200, 3), 60, np.uint8), []
    for k in range(len(receipts)):
        image, truth = receipts.load(k)
        scale = min(960 / image.shape[1], 1120 / image.shape[0])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x, y = 1060 * (k % 3) + 40, 1180 * (k // 3) + 30
        photo[y : y + small.shape[0], x : x + small.shape[1]] = small
        texts += [polygon * scale + np.float32([x, y]) for polygon in truth.polygons]
    return photo, texts


def sizes_read(module: DetectionModule, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(width, height) of what is read beside the first pass, filled later."""
    sizes, read = [], module._probability_map
    monkeypatch.setattr(module, "_probability_map", lambda page: (sizes.append(page.shape[1::-1]), read(page))[1])
    return sizes


def test_small_print_is_read_larger(detector: DetectionModule, photo: tuple, monkeypatch: pytest.MonkeyPatch):
    image, texts = photo
    recalls = []
    for height in (0, 12):
        detector.page_reader = PageReader(upright=False, legible_height=height)
        sizes = sizes_read(detector, monkeypatch)
        found = found_by(detector, image)
        pairs = pair(found.polygons, texts)
        recalls.append(len(np.unique(pairs.g[pairs.iou > 0.5])) / len(texts))
        monkeypatch.undo()
    assert recalls[1] > recalls[0] + 0.05 and recalls[1] > 0.9, recalls
    [(width, _)] = sizes
    assert 1536 < width <= image.shape[1] + detector.pipeline.resize.multiple


def test_large_print_and_small_images_are_read_once(
    detector: DetectionModule, photo: tuple, monkeypatch: pytest.MonkeyPatch
):
    image, _ = photo
    detector.page_reader = PageReader(upright=False, legible_height=12)
    sizes = sizes_read(detector, monkeypatch)
    found_by(detector, image[30:1180, 40:1000])
    found_by(detector, cv2.resize(image, (1536, 1152), interpolation=cv2.INTER_AREA))
    found_by(detector, cv2.resize(image, (1600, 1200), interpolation=cv2.INTER_AREA))
    found_by(detector, np.full((3000, 4000, 3), 200, np.uint8))
    assert sizes == []


def test_the_enlarged_page_has_a_largest_size(detector: DetectionModule, photo: tuple, monkeypatch: pytest.MonkeyPatch):
    image, _ = photo
    detector.page_reader = PageReader(upright=False, legible_height=12)
    monkeypatch.setattr(page_reader, "MAX_PIXELS", 2_800_000)
    sizes = sizes_read(detector, monkeypatch)
    found_by(detector, image)
    [(width, height)] = sizes
    assert 2_600_000 < width * height < 3_000_000


@pytest.mark.parametrize("turns", [1, 2])
def test_small_print_on_its_side_is_read_larger(detector: DetectionModule, photo: tuple, turns: int):
    image, texts = photo
    detector.page_reader = PageReader(upright=True, legible_height=12)
    upright = len(found_by(detector, image))
    turned = found_by(detector, np.ascontiguousarray(np.rot90(image, turns)))
    assert turned.orientation == 360 - 90 * turns
    assert abs(len(turned) - upright) < 0.03 * upright and upright > 0.9 * len(texts)


@pytest.mark.parametrize("now", [None, (2000, 1500)], ids=["gone", "another"])
def test_a_photo_that_is_not_there_any_more_is_not_read_larger(detector: DetectionModule, photo: tuple, now: tuple):
    image, _ = photo

    def changed() -> np.ndarray:
        if now is None:
            raise UndecodableImage("photo.jpg: No such file or directory")
        return np.zeros((*now, 3), np.uint8)

    detector.page_reader = PageReader(upright=False, legible_height=12)
    padded = torch.from_numpy(resize_and_pad(image, detector.pipeline.resize, detector.pipeline.fill_colour))
    size = (image.shape[1], image.shape[0])
    [found] = detector.read([padded], [size], [changed])
    [once] = detector.detect([padded], [size])
    assert len(found) == len(once) > 50
