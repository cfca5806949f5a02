"""Pages that lie on their side or upside down, read upright.

A detector of lines finds next to nothing on a page that lies on its side: fragments about as long as they are high. So
a page whose boxes are that short is read once more, turned. PP-OCR's classifier of text lines then tells up from down.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from ocr.types import Detections

CLASSIFIER = Path(__file__).resolve().parents[1] / "weights/text_direction.onnx"
TEXTS = 6  # fewer make no page: a street scene stays as it is
ELONGATED = 3.3  # lengths over heights of all boxes: receipts have at least 3.9 upright, at most 2.7 on their side
BETTER = 1.25  # times the elongation as it lies, for a page to be taken as turned
LINES = 12  # the longest, that vote on up and down
UPSIDE_DOWN = 0.6  # mean probability of these lines
LINE_SIZE = (192, 48)  # width, height in pixels, of the classifier's input

Reader = Callable[[np.ndarray, tuple[int, int]], Detections]


class UprightReader:
    """Finds the text of a page whichever way up it lies. An image with few texts is taken as upright."""

    def __call__(self, read: Reader, page: np.ndarray, size: tuple[int, int], found: Detections) -> Detections:
        """Detections of a page read upright; their ``orientation`` says how it lies.

        Args:
            read: text in a page and its original size, in the original's pixels.
            page: uint8 (H, W, 3), RGB, at network size, without padding.
            size: (width, height) of the original.
            found: text in the page as it lies.

        Returns:
            Polygons in the original's pixels as it lies. Their corners start at the text's own top left.
        """
        turns = 0
        is_page = len(found) >= TEXTS
        if is_page and _elongation(found) < ELONGATED:
            on_side = read(*_turned(page, size, 1))
            if len(on_side) >= TEXTS and _elongation(on_side) > max(ELONGATED, BETTER * _elongation(found)):
                turns, found = 1, on_side
        if is_page and self._upside_down(*_turned(page, size, turns), found) > UPSIDE_DOWN:
            again = read(*_turned(page, size, turns + 2))
            if len(again) >= len(found) / 2:
                turns, found = turns + 2, again
        polygons = [_turned_back(_from_top_left(p), size, turns) for p in found.polygons]
        return Detections(polygons, found.scores, 90 * turns)

    @cached_property
    def _session(self):  # type: ignore[no-untyped-def]
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a few small lines
        return onnxruntime.InferenceSession(str(CLASSIFIER), options, providers=["CPUExecutionProvider"])

    def _upside_down(self, page: np.ndarray, size: tuple[int, int], found: Detections) -> float:
        """Probability that the longest lines of a page stand on their head, their mean."""
        scale = np.array(page.shape[1::-1], np.float32) / size
        quads = [_upright_quad(polygon * scale) for polygon in found.polygons]
        longest = sorted(quads, key=lambda quad: -np.divide(*_sides(quad)))[:LINES]
        lines = np.stack([_line(page, quad) for quad in longest])
        [session_input] = self._session.get_inputs()
        return float(self._session.run(None, {session_input.name: lines})[0][:, 1].mean())


def _elongation(found: Detections) -> float:
    """Lengths of all boxes over their heights; 0 without a box."""
    sides = np.array([sorted(cv2.minAreaRect(p.astype(np.float32))[1]) for p in found.polygons]).reshape(-1, 2)
    return float(sides[:, 1].sum() / max(sides[:, 0].sum(), 1)) if len(sides) else 0.0


def _turned(page: np.ndarray, size: tuple[int, int], turns: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Page and size after that many quarter turns counter-clockwise."""
    return np.ascontiguousarray(np.rot90(page, turns)), size if turns % 2 == 0 else size[::-1]


def _turned_back(polygon: np.ndarray, size: tuple[int, int], turns: int) -> np.ndarray:
    """A polygon (N, 2) of a page of ``size`` that was turned, in the pixels of the page as it was."""
    (width, height), (x, y) = size, polygon.T
    points = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))[turns]
    return np.stack(points, 1).astype(np.float32)


def _from_top_left(polygon: np.ndarray) -> np.ndarray:
    """A quadrangle of an upright page with its top left corner first; an outline of more points as it is."""
    if len(polygon) != 4:
        return polygon
    left = np.argsort(polygon[:, 0], kind="stable")[:2]
    return np.roll(polygon, -int(left[polygon[left, 1].argmin()]), axis=0)


def _upright_quad(polygon: np.ndarray) -> np.ndarray:
    """The rectangle around a text of an upright page, float32 (4, 2), clockwise from its top left."""
    corners = cv2.boxPoints(cv2.minAreaRect(polygon.astype(np.float32)))
    left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
    (top_left, bottom_left), (top_right, bottom_right) = (end[np.argsort(end[:, 1])] for end in (left, right))
    return np.stack([top_left, top_right, bottom_right, bottom_left])


def _sides(quad: np.ndarray) -> tuple[float, float]:
    """Width and height, at least a pixel each."""
    return max(1.0, float(np.linalg.norm(quad[1] - quad[0]))), max(1.0, float(np.linalg.norm(quad[3] - quad[0])))


def _line(page: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """The classifier's input, float32 (3, 48, 192): BGR in -1..1, the line at the left, zeros beside it."""
    width, height = LINE_SIZE
    long, high = _sides(quad)
    inner = min(width, max(1, int(np.ceil(height * long / high))))
    target = np.array([[0, 0], [inner, 0], [inner, height], [0, height]], np.float32)
    corner = np.maximum(quad.min(0).astype(int) - 1, 0)  # OpenCV warps no page of 32,767 rows and more
    part = page[corner[1] : int(quad[:, 1].max()) + 2, corner[0] : int(quad[:, 0].max()) + 2]
    to_line = cv2.getPerspectiveTransform(quad - corner.astype(np.float32), target)
    line = cv2.warpPerspective(part, to_line, (inner, height))
    out = np.zeros((3, height, width), np.float32)
    out[:, :, :inner] = (line[:, :, ::-1].astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)
    return out
