"""PP-OCR's classifier of text lines: upright or upside down."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSIFIER = Path(__file__).resolve().parents[1] / "weights/text_direction.onnx"
LINE_SIZE = (192, 48)  # width, height in pixels, of its input


def upside_down(page: np.ndarray, polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Probability, float32 (M,), that lines stand on their head.

    Args:
        page: uint8 (H, W, 3), RGB, on which the lines are about horizontal.
        polygons: outlines of the lines, float (N, 2) each, in the page's pixels.
    """
    if not len(polygons):
        return np.zeros(0, np.float32)
    lines = np.stack([_line(page, _upright_quad(polygon)) for polygon in polygons])
    [session_input] = _session().get_inputs()
    return _session().run(None, {session_input.name: lines})[0][:, 1]


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a few small lines
    return onnxruntime.InferenceSession(str(CLASSIFIER), options, providers=["CPUExecutionProvider"])


def _upright_quad(polygon: np.ndarray) -> np.ndarray:
    """The rectangle around a text of an upright page, float32 (4, 2), clockwise from its top left."""
    corners = cv2.boxPoints(cv2.minAreaRect(polygon.astype(np.float32)))
    left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
    (top_left, bottom_left), (top_right, bottom_right) = (end[np.argsort(end[:, 1])] for end in (left, right))
    return np.stack([top_left, top_right, bottom_right, bottom_left])


def _line(page: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """The classifier's input, float32 (3, 48, 192): BGR in -1..1, the line at the left, zeros beside it."""
    width, height = LINE_SIZE
    long, high = (max(1.0, float(np.linalg.norm(quad[k] - quad[0]))) for k in (1, 3))  # pixels
    inner = min(width, max(1, int(np.ceil(height * long / high))))
    target = np.array([[0, 0], [inner, 0], [inner, height], [0, height]], np.float32)
    corner = np.maximum(quad.min(0).astype(int) - 1, 0)  # OpenCV warps no page of 32,767 rows and more
    part = page[corner[1] : int(quad[:, 1].max()) + 2, corner[0] : int(quad[:, 0].max()) + 2]
    to_line = cv2.getPerspectiveTransform(quad - corner.astype(np.float32), target)
    line = cv2.warpPerspective(part, to_line, (inner, height))
    out = np.zeros((3, height, width), np.float32)
    out[:, :, :inner] = (line[:, :, ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
    return out
