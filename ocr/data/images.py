"""Reading and resizing pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ocr.pipeline import ResizePolicy


class UndecodableImage(Exception):
    """The file's header is sound but its pixels are not."""


SHRUNK = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
          8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip


def shrink_for(scale: float) -> int:
    """How many times smaller an image may be decoded that is then read at a scale, 1, 2, 4 or 8."""
    return max(factor for factor in SHRUNK if factor == 1 or factor * scale <= 1)


def decode(path: Path, shrink: int = 1) -> np.ndarray:
    """Image file to uint8 (H, W, 3), RGB, EXIF orientation applied.

    Args:
        shrink: a key of :data:`SHRUNK`: both sides that many times shorter, rounded up. A JPEG is decoded so at a
            fraction of the cost.

    Raises:
        UndecodableImage: the file cannot be read or decoded.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UndecodableImage(f"{path}: {error.strerror or error}") from error
    image = cv2.imdecode(data, SHRUNK[shrink]) if data.size else None
    if image is None:
        raise UndecodableImage(f"{path}: cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def resize_and_pad(image: np.ndarray, policy: ResizePolicy, fill: tuple[int, int, int]) -> np.ndarray:
    """Image uint8 (H, W, 3) to network size, padded at the right and bottom with ``fill``."""
    height, width = image.shape[:2]
    content_w, content_h = policy.content_size(width, height)
    padded_w, padded_h = policy.padded_size(width, height)
    if (content_w, content_h) != (width, height):
        shrinking = content_w * content_h < width * height
        image = cv2.resize(
            image, (content_w, content_h), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        )
    out = np.empty((padded_h, padded_w, 3), np.uint8)
    out[:] = fill
    out[:content_h, :content_w] = image
    return out
