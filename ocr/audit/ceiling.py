"""The score of a network that draws the training targets without a fault: nothing trained can be expected beyond."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ocr.audit.splits import LabelledImage
from ocr.data.targets.maps import SHRINK_MAP, TargetMaker
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import compare
from ocr.models.postprocess.db import detect
from ocr.pipeline import Pipeline


@dataclass(frozen=True)
class Ceiling:
    """Score that targets and post-processing reach on labels without a network.

    Attributes:
        scores: ``hmean``, ``precision`` and ``recall``.
        lost: (index of the image, indices of texts that are lost) of each image with any.
    """

    scores: dict[str, float]
    lost: list[tuple[int, list[int]]]

    @classmethod
    def of(cls, images: Iterable[LabelledImage], pipeline: Pipeline, targets: TargetMaker) -> Ceiling:
        """The ceiling of images whose labels are sent through the targets of training and post-processing."""
        totals = np.zeros(Hmean.size)
        lost: list[tuple[int, list[int]]] = []
        for index, (_, width, height, truth, _) in enumerate(images):
            content, padded = pipeline.resize.content_size(width, height), pipeline.resize.padded_size(width, height)
            scale = np.array(content) / (width, height)
            polygons = [(polygon * scale).astype(np.float32) for polygon in truth.polygons]
            maps = targets(polygons, truth.ignore, padded[1], padded[0])
            image = compare(detect(maps[SHRINK_MAP].astype(np.float32), width, height, pipeline), truth)
            totals += Hmean().count(image)
            missed = np.flatnonzero((image.match.truth < 0) & ~np.asarray(truth.ignore, bool)).tolist()
            if missed:
                lost.append((index, missed))
        return cls(Hmean().scores(totals), lost)
