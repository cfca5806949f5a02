"""Pages, and receipts of one page, that lie on their side or upside down."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.metrics.matching import pair
from ocr.models import orientation
from ocr.models.orientation import MIN_TEXTS, read_upright
from ocr.models.pretrained.ppocr import weights_file
from ocr.models.text_direction import upside_down
from ocr.training.callbacks.predictions import prediction_line
from ocr.training.loading import load_module
from ocr.training.module import DetectionModule
from ocr.training.page_reader import PageReader
from ocr.types import Detections
from tests.conftest import found_by


@pytest.fixture(scope="module")
def detector() -> DetectionModule:
    module = load_module(weights_file("receipts-small"))
    module.page_reader = PageReader(upright=True, legible_height=0)
    return module


@pytest.fixture(scope="module", params=[0.3, 0.8], ids=["scan", "photo"])
def page(request: pytest.FixtureRequest) -> np.ndarray:
    """Higher than wide, as most receipts are."""
    image, _ = SyntheticReceipts(1, 77, request.param, style="shop").load(0)
    return image


def as_it_lies(points: np.ndarray, page: np.ndarray, turns: int) -> np.ndarray:
    """Points of a page after quarter turns clockwise, step by step: (x, y) of a page h high comes to (h - y, x)."""
    height, width = page.shape[:2]
    for _ in range(turns):
        points = np.stack([height - points[:, 1], points[:, 0]], 1)
        height, width = width, height
    return points


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_page_is_read_as_an_upright_one(detector: DetectionModule, page: np.ndarray, turns: int):
    upright = found_by(detector, page)
    assert upright.orientation == 0 and len(upright) > 15
    assert all(np.linalg.norm(p - p.min(0), axis=1).argmin() == 0 for p in upright.polygons), "top left first"
    turned = found_by(detector, np.ascontiguousarray(np.rot90(page, -turns)))
    assert turned.orientation == 90 * turns
    expected = [as_it_lies(p, page, turns) for p in upright.polygons]
    pairs = pair(turned.polygons, expected)
    same = pairs.iou > 0.8
    assert same.sum() > 0.95 * len(expected)
    apart = [np.linalg.norm(turned.polygons[d][0] - expected[g][0]) for d, g in zip(pairs.d[same], pairs.g[same])]
    assert np.mean(np.array(apart) < 6) > 0.97, "the text's own top left first"


def test_without_it_a_page_on_its_side_is_lost(detector: DetectionModule, page: np.ndarray):
    plain = load_module(weights_file("receipts-small"))
    expected = [as_it_lies(p, page, 1) for p in found_by(plain, page).polygons]
    found = found_by(plain, np.ascontiguousarray(np.rot90(page, -1)))
    assert found.orientation is None and "orientation" not in json.loads(prediction_line("a", (1, 1), found))
    assert (pair(found.polygons, expected).iou > 0.5).sum() < 0.3 * len(expected)


def test_an_image_with_few_texts_stays_as_it_is(detector: DetectionModule, page: np.ndarray):
    texts = [p for p in found_by(detector, page).polygons if p[:, 1].max() < page.shape[0] / 2][: MIN_TEXTS - 1]
    bare = np.full_like(page, 255)
    for x0, y0, x1, y1 in ((*p.min(0).astype(int), *p.max(0).astype(int)) for p in texts):
        bare[y0:y1, x0:x1] = page[y0:y1, x0:x1]
    for image in (bare, np.ascontiguousarray(np.rot90(bare, 2)), np.full((64, 48, 3), 255, np.uint8)):
        assert found_by(detector, image).orientation == 0


def test_a_page_that_is_longer_than_opencv_warps_is_looked_at():
    found = [np.array([[2, y], [60, y], [60, y + 9], [2, y + 9]], np.float32) for y in range(32_800, 32_990, 20)]
    page = np.full((33_000, 64, 3), 255, np.uint8)
    chances = upside_down(page, found)
    assert chances.shape == (len(found),) and ((chances >= 0) & (chances <= 1)).all()


def test_a_page_is_read_once_more_only_where_it_looks_turned(monkeypatch: pytest.MonkeyPatch):
    """Reads are counted: an upright page has none beside its first."""
    lines = [np.array([[10, y], [200, y], [200, y + 20], [10, y + 20]], np.float32) for y in range(10, 300, 30)]
    page, reads = np.full((320, 240, 3), 255, np.uint8), []

    def read(image: np.ndarray, size: tuple[int, int]) -> Detections:
        reads.append((image.shape, size))
        return Detections(lines, np.ones(len(lines), np.float32))

    monkeypatch.setattr(orientation, "upside_down", lambda page, polygons: np.full(len(polygons), 0.1))
    found = read_upright(read, page, (480, 640), Detections(lines, np.ones(len(lines), np.float32)))
    assert found.orientation == 0 and reads == []
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)
    squares = [square + np.float32([100, 20 * k]) for k in range(12)]
    found = read_upright(read, page, (480, 640), Detections(squares, np.ones(len(squares), np.float32)))
    assert found.orientation == 90 and reads == [((240, 320, 3), (640, 480))]
    few = lambda image, size: Detections(lines[: MIN_TEXTS - 1], np.ones(MIN_TEXTS - 1, np.float32))  # noqa: E731
    found = read_upright(few, page, (480, 640), Detections(squares, np.ones(len(squares), np.float32)))
    assert found.orientation == 0 and len(found) == len(squares), "a few long boxes are no better reading"
    monkeypatch.setattr(orientation, "upside_down", lambda page, polygons: np.full(len(polygons), 0.9))
    found = read_upright(read, page, (480, 640), Detections(squares, np.ones(len(squares), np.float32)))
    assert found.orientation == 270 and len(reads) == 3


@pytest.mark.parametrize("texts, turned", [(17, 0), (18, 90)])
def test_a_page_of_which_nothing_is_found_as_it_lies_needs_more_texts(
    texts: int, turned: int, monkeypatch: pytest.MonkeyPatch
):
    line = np.array([[10, 10], [190, 10], [190, 19], [10, 19]], np.float32)
    lines = [line + np.float32([0, 20 * k]) for k in range(texts)]
    again = Detections(lines, np.ones(texts, np.float32))
    monkeypatch.setattr(orientation, "upside_down", lambda page, polygons: np.zeros(len(polygons)))
    nothing = Detections([], np.zeros(0, np.float32))
    found = read_upright(lambda page, size: again, np.full((200, 400, 3), 255, np.uint8), (400, 200), nothing)
    assert (found.orientation, len(found)) == (turned, texts if turned else 0)


@pytest.mark.parametrize("first", [0, 1, 5, 8])
@pytest.mark.parametrize("then", [0, 1, 5, 8])
def test_any_number_of_texts_can_be_found(first: int, then: int):
    lines = [np.array([[10, y], [90, y], [90, y + 9], [10, y + 9]], np.float32) for y in range(10, 170, 20)]
    first_found, again = (Detections(lines[:n], np.ones(n, np.float32)) for n in (first, then))
    page = np.full((200, 100, 3), 255, np.uint8)
    found = read_upright(lambda page, size: again, page, (100, 200), first_found)
    assert len(found) in (first, then) and len(found.scores) == len(found)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_receipts_of_one_photo_lie_each_its_own_way(detector: DetectionModule, page: np.ndarray, turns: int):
    other = np.ascontiguousarray(np.rot90(page, -turns))
    (height, width), (other_height, other_width) = page.shape[:2], other.shape[:2]
    photo = np.full((max(height, other_height) + 40, width + other_width + 120, 3), 90, np.uint8)
    photo[20 : 20 + height, 20 : 20 + width] = page
    photo[20 : 20 + other_height, width + 100 : width + 100 + other_width] = other
    alone = found_by(detector, page).polygons
    expected = [p + 20 for p in alone] + [as_it_lies(p, page, turns) + np.array([width + 100, 20]) for p in alone]
    found = found_by(detector, photo)
    pairs = pair(found.polygons, expected)
    same = pairs.iou > 0.5
    assert same.sum() > 0.9 * len(expected) and len(found) < 1.1 * len(expected)
    apart = [np.linalg.norm(found.polygons[d][0] - expected[g][0]) for d, g in zip(pairs.d[same], pairs.g[same])]
    assert np.mean(np.array(apart) < 8) > 0.97, "each text's own top left first"
