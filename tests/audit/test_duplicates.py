"""Near-duplicates: two scans of a receipt are one, two receipts of a shop are two."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ocr.audit.duplicates import Fingerprint, near_duplicates
from ocr.types import Truth

SHOP = ["SHOP 24", "12 MAIN STREET", "TEL 03-40210276", "GST 000750673920"]


def receipt(number: str, date: str, total: str, shift: int = 0, margin: int = 20) -> tuple[np.ndarray, Truth, int, int]:
    """A picture with lines of print, and its labels."""
    lines = [*SHOP, f"INV {number}", date, f"TOTAL {total}", "THANK YOU"]
    width, height = 300 + 2 * margin, 40 * len(lines) + 2 * margin
    image = np.full((height, width, 3), 250, np.uint8)
    polygons = []
    for k, line in enumerate(lines):
        x, y = margin + shift, margin + 40 * k
        cv2.putText(image, line, (x, y + 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 2)
        polygons.append(
            np.array([[x, y], [x + 14 * len(line), y], [x + 14 * len(line), y + 30], [x, y + 30]], np.float32)
        )
    return image, Truth(polygons, np.zeros(len(lines), bool), lines), width, height


def groups(*receipts: tuple[np.ndarray, Truth, int, int]) -> list[list[int]]:
    return near_duplicates([Fingerprint.of(*r) for r in receipts])


ONE = ("1188875", "12-06-2018 17:46", "24.60")
OTHER = ("1212276", "26-06-2018 17:08", "24.60")


def test_two_scans_of_a_receipt_are_one_and_a_receipt_of_the_same_shop_is_another():
    dark = receipt(*ONE, shift=6, margin=60)
    dark[0][:] = (dark[0] * 0.8).astype(np.uint8)
    assert groups(receipt(*ONE), dark, receipt(*OTHER)) == [[0, 1]]


@pytest.mark.parametrize("texts", ["none", "ignored", "without numbers"])
def test_without_numbers_the_picture_and_the_layout_decide(texts: str):
    def bare(image: np.ndarray, truth: Truth, width: int, height: int) -> tuple[np.ndarray, Truth, int, int]:
        words = [] if texts == "none" else ["word"] * len(truth.polygons)
        words = words or [""] * len(truth.polygons)
        return image, Truth(truth.polygons, np.full(len(words), texts == "ignored"), words), width, height

    far = bare(*receipt(*ONE))
    moved = Truth(
        [p + np.array([0, 400 * (k % 2)]) for k, p in enumerate(far[1].polygons)], far[1].ignore, far[1].texts
    )
    noise = np.random.default_rng(0).integers(0, 255, far[0].shape, np.uint8)
    assert groups(bare(*receipt(*ONE)), bare(*receipt(*ONE, margin=60)), (noise, moved, far[2], far[3])) == [[0, 1]]


def test_equal_pixels_are_one_image_whatever_their_labels_say():
    image, truth, width, height = receipt(*ONE)
    relabelled = Truth(truth.polygons[:4], truth.ignore[:4], ["111111", "222222", "333333", "444444"])
    assert groups((image, truth, width, height), (image.copy(), relabelled, width, height)) == [[0, 1]]


def test_images_without_labels_are_told_apart_by_their_pictures():
    none = Truth([], np.zeros(0, bool), [])
    image, _, width, height = receipt(*ONE)
    grey = cv2.GaussianBlur(image, (3, 3), 0)
    noise = np.random.default_rng(0).integers(0, 255, image.shape, np.uint8)
    assert groups(*((picture, none, width, height) for picture in (image, noise, grey))) == [[0, 2]]
    assert groups() == []
