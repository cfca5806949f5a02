"""Near-duplicates: two scans of a receipt are one, two receipts of a shop are two."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ocr.audit.duplicates import Fingerprint, near_duplicates
from ocr.types import Truth

SHOP = ["SHOP 24", "REG 81109", "TEL 03-40210276", "GST 000750673920"]


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


def test_pictures_that_are_alike_are_two_where_their_words_differ():
    image, truth, width, height = receipt(*ONE)
    tickets = [Truth(truth.polygons, truth.ignore, [f"{letter * 4}{k}" for k in range(8)]) for letter in "abc"]
    pictures = [cv2.GaussianBlur(image, (2 * k + 1, 2 * k + 1), 0) for k in range(3)]
    assert groups(*((p, t, width, height) for p, t in zip(pictures, tickets, strict=True))) == []


@pytest.mark.parametrize("change", ["every second label", "words", "misread", "half", "padded"])
def test_a_scan_that_is_labelled_or_stored_otherwise_is_the_same(change: str):
    image, truth, width, height = receipt(*ONE)
    other, labels, size = cv2.GaussianBlur(image, (3, 3), 0), truth, (width, height)
    if change == "every second label":
        labels = Truth(truth.polygons[::2], truth.ignore[::2], truth.texts[::2])
    elif change == "words":
        words = [(p, word) for p, t in zip(truth.polygons, truth.texts, strict=True) for word in t.split()]
        labels = Truth([p for p, _ in words], np.zeros(len(words), bool), [word for _, word in words])
    elif change == "misread":
        labels = Truth(
            truth.polygons, truth.ignore, [t[:-1] + "x" if k % 4 == 0 else t for k, t in enumerate(truth.texts)]
        )
    elif change == "half":
        other = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    else:
        other = cv2.copyMakeBorder(image, 40, 10, 30, 60, cv2.BORDER_CONSTANT, value=(60, 80, 90))
        labels = Truth([p + np.array([30, 40], np.float32) for p in truth.polygons], truth.ignore, truth.texts)
        size = (width + 90, height + 50)
    assert groups((image, truth, width, height), (other, labels, *size)) == [[0, 1]]


def test_a_letterhead_alone_does_not_tell_receipts_of_a_shop_apart():
    image, truth, width, height = receipt(*ONE)
    head = Truth(truth.polygons[:4], truth.ignore[:4], truth.texts[:4])
    assert groups((image, head, width, height), receipt(*OTHER, shift=40, margin=80)) == []


def test_noise_on_blank_paper_does_not_decide():
    rng = np.random.default_rng(0)
    image, truth, width, height = receipt(*ONE, margin=100)
    bare = Truth(truth.polygons, truth.ignore, [""] * len(truth.polygons))
    scans = [np.clip(image * 0.9 + rng.normal(0, 5, image.shape), 0, 255).astype(np.uint8) for _ in range(2)]
    assert groups(*((scan, bare, width, height) for scan in scans)) == [[0, 1]]


def test_pictures_without_texture_are_not_the_same_by_chance():
    none = Truth([], np.zeros(0, bool), [])
    blank = [np.full((300, 200, 3), 250 - k, np.uint8) for k in range(3)]
    for image in blank:
        cv2.circle(image, (40, 100), 9, (0, 0, 0), -1)
    assert groups(*((image, none, 200, 300) for image in blank)) == []


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
