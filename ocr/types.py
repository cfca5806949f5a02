"""Plain types that data, models and metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class Instance:
    """One piece of labelled text.

    Attributes:
        polygon: float32 (N, 2), N >= 3, x then y, in pixels of the image as a viewer shows it (EXIF applied).
            Pixel (0, 0) covers the square from (0, 0) to (1, 1).
        text: transcription, empty when the label has none.
        ignore: true for text that neither counts as found nor as missed.
        line: line or entry number in the label file, for messages; 0 when there is none.
    """

    polygon: np.ndarray
    text: str = ""
    ignore: bool = False
    line: int = 0


RELATIVE = (1, 1)  # Sample.size of labels in fractions of the image


@dataclass
class Sample:
    """One image and its labels, as a reader yields it.

    Attributes:
        image: path of the image file.
        instances: its labelled text; empty for an image without text.
        labels: the file that the labels came from, for messages.
        entries: how many entries that file has for this image, sound or not.
        size: (width, height) of the image as that file states it, in the pixels of the labels; None where it does not;
            :data:`RELATIVE` for labels in fractions of it.
        either_order: that size may as well be (height, width).
    """

    image: Path
    instances: list[Instance] = field(default_factory=list)
    labels: Path | None = None
    entries: int = 0
    size: tuple[int, int] | None = None
    either_order: bool = False


@dataclass
class Detections:
    """Detected text of one image.

    Attributes:
        polygons: list of M float32 arrays (N, 2), x then y, in the original image's pixels.
        scores: float32 (M,), 0..1.
        orientation: degrees that most of the text is turned clockwise in the image, 0, 90, 180 or 270; None where that
            was not asked.
    """

    polygons: list[np.ndarray]
    scores: np.ndarray
    orientation: int | None = None

    def __len__(self) -> int:
        return len(self.polygons)


@dataclass
class Truth:
    """The labels of one image in the form the metrics take.

    Attributes:
        polygons: list of M float32 arrays (N, 2), in the original image's pixels.
        ignore: bool (M,).
        texts: list of M strings.
    """

    polygons: list[np.ndarray]
    ignore: np.ndarray
    texts: list[str] = field(default_factory=list)


@dataclass
class LazySample:
    """One image and its labels; pixels are decoded on demand.

    Attributes:
        width, height: of the original image, pixels; the frame of the labels.
        truth: its labels.
        pixels: decodes the image, uint8 (H, W, 3) RGB, at 1 / factor of its size; the factor is 1, 2, 4 or 8.
    """

    width: int
    height: int
    truth: Truth
    pixels: Callable[[int], np.ndarray]
