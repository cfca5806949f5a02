"""A photo as it comes: small print is read larger, text that lies on its side or upside down as if it were upright."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from ocr.data.transforms.decode import UndecodableImage, pad, resize_and_pad
from ocr.models.orientation import TEXTS, UprightReader
from ocr.models.postprocess.db import detect
from ocr.pipeline import Pipeline
from ocr.types import Detections

log = logging.getLogger(__name__)
ENLARGED = 1.4  # times the legible height: what small print comes to when it is read larger
LARGEST = 20_000_000  # pixels of the network's input that a page is enlarged to


class PageReader:
    """Reads pages once more that a single pass cannot read well.

    Args:
        upright: read text that lies on its side or upside down as if it were upright.
        legible_height: pixels at network size. Where a quarter of the texts are less high, the page is read larger, but
            never larger than it is; 0 for never.
    """

    def __init__(self, upright: bool, legible_height: float) -> None:
        self.upright = UprightReader() if upright else None
        self.legible_height = legible_height

    def __call__(
        self,
        found: Detections,
        page: np.ndarray,
        original: Callable[[], np.ndarray],
        size: tuple[int, int],
        pipeline: Pipeline,
        probability_map: Callable[[np.ndarray], np.ndarray],
    ) -> Detections:
        """Text of a page, in its own pixels.

        Args:
            found: text in it by a single pass.
            page: uint8 (H, W, 3), RGB, at network size and padded.
            original: loads it as it is, uint8 (height, width, 3), RGB.
            size: (width, height) of the original.
            probability_map: of a padded page, float32 (H, W).
        """

        def read(page: np.ndarray, size: tuple[int, int]) -> Detections:
            padded = pad(page, pipeline.resize.multiple, pipeline.fill_colour)
            return detect(np.ascontiguousarray(probability_map(padded)), *size, pipeline)

        width, height = pipeline.resize.content_size(*size)
        page = page[:height, :width]
        factor = min(self._magnification(found, height / size[1]), (LARGEST / (width * height)) ** 0.5)
        whole = _loaded(original) if factor > 1 else None
        if whole is not None:
            resize = pipeline.resize
            pipeline = replace(pipeline, resize=replace(resize, long_side=round(resize.long_side * factor)))
            width, height = pipeline.resize.content_size(*size)
            page = resize_and_pad(whole, pipeline.resize, pipeline.fill_colour)[:height, :width]
            found = read(page, size)
        return found if self.upright is None else self.upright(read, page, size, found)

    def _magnification(self, found: Detections, scale: float) -> float:
        """How many times larger a page is to be read that was read at ``scale`` of its size; 1: it is legible."""
        if len(found) < TEXTS:
            return 1.0
        heights = [min(cv2.minAreaRect(polygon.astype(np.float32))[1]) for polygon in found.polygons]
        height = max(1.0, float(np.quantile(heights, 0.25)) * scale)
        return min(ENLARGED * self.legible_height / height, 1 / scale) if height < self.legible_height else 1.0


def _loaded(original: Callable[[], np.ndarray]) -> np.ndarray | None:
    try:
        return original()
    except UndecodableImage as error:  # it has gone since it was read first
        log.warning("%s; its small print is not read larger", error)
        return None
