"""Read photos as they come: small print enlarged, text on its side or upside down turned upright."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from ocr.data.transforms.decode import UndecodableImage, pad, resize_and_pad
from ocr.models.orientation import MIN_TEXTS, read_upright
from ocr.models.postprocess.db import detect
from ocr.pipeline import Pipeline, ResizePolicy
from ocr.types import Detections

log = logging.getLogger(__name__)
ENLARGED_HEIGHT = 1.4  # legible heights that small print has when it is read larger
MIN_ENLARGEMENT = 1.2  # times as wide: a page that can be enlarged by less is left as it was read
MAX_PIXELS = 20_000_000  # of the network's input that a page is enlarged to


class PageReader:
    """Reads pages once more that a single pass cannot read well.

    Args:
        upright: read text that lies on its side or upside down as if it were upright.
        legible_height: pixels at network size. Where a quarter of the texts are less high, the page is read larger, but
            never larger than it is; 0 for never.
    """

    def __init__(self, upright: bool, legible_height: float) -> None:
        self.upright, self.legible_height = upright, legible_height

    def __call__(
        self,
        detections: Detections,
        page: np.ndarray,
        original: Callable[[], np.ndarray],
        size: tuple[int, int],
        pipeline: Pipeline,
        probability_map: Callable[[np.ndarray], np.ndarray],
    ) -> Detections:
        """Text of a page, in its own pixels.

        Args:
            detections: text in it by a single pass.
            page: uint8 (H, W, 3), RGB, at network size and padded.
            original: loads it as it is, uint8 (height, width, 3), RGB.
            size: (width, height) of the original.
            probability_map: of a padded page, float32 (H, W).
        """

        def read(page: np.ndarray, size: tuple[int, int]) -> Detections:
            padded = pad(page, pipeline.resize.multiple, pipeline.fill_colour)
            return detect(np.ascontiguousarray(probability_map(padded)), *size, pipeline)

        def as_it_lies(page: np.ndarray, detections: Detections | None) -> Detections:
            width, height = pipeline.resize.content_size(*size)
            page = page[:height, :width]
            detections = read(page, size) if detections is None else detections
            return read_upright(read, page, size, detections) if self.upright else detections

        detections = as_it_lies(page, detections)
        larger = self._larger(detections, pipeline.resize, size)
        if larger is None or (whole := _loaded(original, size)) is None:
            return detections
        pipeline = replace(pipeline, resize=larger)
        return as_it_lies(resize_and_pad(whole, larger, pipeline.fill_colour), None)

    def _larger(self, detections: Detections, resize: ResizePolicy, size: tuple[int, int]) -> ResizePolicy | None:
        """Choose a larger size for a page of small print; None where it is legible or cannot be enlarged."""
        if len(detections) < MIN_TEXTS:
            return None
        width, height = resize.content_size(*size)
        sides = [min(cv2.minAreaRect(polygon.astype(np.float32))[1]) for polygon in detections.polygons]
        text_height = max(1.0, float(np.quantile(sides, 0.25)) * width / size[0])
        if text_height >= self.legible_height:
            return None
        factor = min(
            ENLARGED_HEIGHT * self.legible_height / text_height, size[0] / width, (MAX_PIXELS / (width * height)) ** 0.5
        )
        larger = replace(resize, long_side=max(1, round(resize.long_side * factor)))
        return larger if larger.content_size(*size)[0] >= MIN_ENLARGEMENT * width else None


def _loaded(original: Callable[[], np.ndarray], size: tuple[int, int]) -> np.ndarray | None:
    """The original; None, with a warning, where it is not what it was when it was read first."""
    try:
        image = original()
    except UndecodableImage as error:
        log.warning("%s; its small print is not read larger", error)
        return None
    if image.shape[1::-1] != size:
        log.warning("an image has changed while it was read: its small print is not read larger")
        return None
    return image
