"""Post-processing parameters chosen on a labelled split: one forward pass per input size, then many combinations.

The expensive parts are shared: contours and their scores are computed once per threshold, polygons and their overlaps
with the labels once per unclip ratio; score thresholds and size limits only choose among them. Counts are kept per
image, so that cross-validation costs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from ocr.data.datasets import EvalSet, collate_eval
from ocr.data.sources.build import Source
from ocr.errors import UserError
from ocr.metrics.deteval import deteval
from ocr.metrics.matching import Pairs, match_pairs, pair
from ocr.models.postprocess.db import find_candidates, to_image, unclip
from ocr.pipeline import PostProcess
from ocr.training.module import DetectionModule
from ocr.tuning.choice import Tuned, choose
from ocr.tuning.grid import Grid
from ocr.types import Truth

MAP_LEVELS = 4095  # of a cached probability; with 255 hmean differed from the network's (0.9748 for 0.9744 on SROIE)


@dataclass(frozen=True)
class CachedImage:
    """The network's answers for one image.

    Attributes:
        size, truth: as in :class:`ocr.data.datasets.EvalSet`.
        maps: by input size, the probability map of the image's area, see :func:`pack`.
    """

    size: tuple[int, int]
    truth: Truth
    maps: dict[int, np.ndarray]

    def probability(self, long_side: int) -> np.ndarray:
        """float32 (h, w), in steps of 1 / :data:`MAP_LEVELS`."""
        levels = np.asarray(cv2.imdecode(self.maps[long_side], cv2.IMREAD_UNCHANGED))
        return levels.astype(np.float32) / MAP_LEVELS


def pack(probability: np.ndarray) -> np.ndarray:
    """A probability map, float (h, w), as a PNG file of 12 bits: uint8 (B,)."""
    values = np.rint(probability * MAP_LEVELS).astype(np.uint16)
    return cv2.imencode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]


def collect(
    module: DetectionModule,
    sources: Sequence[Source],
    long_sides: Sequence[int],
    device: torch.device | str,
    num_workers: int,
) -> list[CachedImage]:
    """One forward pass over the images at each size."""
    module = module.to(device).eval()
    images: dict[int, CachedImage] = {}
    for side in long_sides:
        pipeline = replace(module.pipeline, resize=replace(module.pipeline.resize, long_side=side))
        loader = DataLoader(EvalSet(sources, pipeline), num_workers=num_workers, collate_fn=collate_eval)
        for batch in loader:
            for index, image, size, truth in zip(*(batch[key] for key in ("indices", "images", "sizes", "truths"))):
                [probability] = module.probability_maps(image[None].to(device))
                width, height = pipeline.resize.content_size(*size)
                packed = pack(probability[:height, :width])
                images.setdefault(index, CachedImage(size, truth, {})).maps[side] = packed
    return list(images.values())


def count_image(image: CachedImage, grid: Grid, base: PostProcess) -> np.ndarray:
    """Counts of every combination, float64 (combinations, 7).

    Texts; at IoU 0.5 detections, matches and the sum of their IoU; by DetEval detections, what they earned, and what
    texts earned.
    """
    ignore = np.asarray(image.truth.ignore, bool)
    rows: list[tuple[float, ...]] = []
    for side, thresh in product(image.maps, grid.thresh):
        probability = image.probability(side)
        shape = probability.shape[::-1]
        candidates = find_candidates(probability, thresh, grid.min_size[0], base.max_candidates)
        kernel_size = candidates.sides.min(axis=1, initial=np.inf)
        for kind, amount in grid.unclip_options():
            params = replace(base, thresh=thresh, unclip=kind, unclip_ratio=amount, min_size=grid.min_size[0])
            polygons, kept_kernels = unclip(candidates, params)
            pairs = pair(to_image(polygons, shape, image.size), image.truth.polygons)
            score, size = candidates.scores[kept_kernels], kernel_size[kept_kernels]
            counted: dict[bytes, tuple[float, ...]] = {}  # many limits keep the same detections
            for box_thresh, min_size in product(grid.box_thresh, grid.min_size):
                kept = (score >= box_thresh) & (size >= min_size)
                if (key := kept.tobytes()) not in counted:
                    counted[key] = _count(pairs.only(kept), ignore)
                rows.append(counted[key])
    return np.array(rows, np.float64)


def _count(pairs: Pairs, ignore: np.ndarray) -> tuple[float, ...]:
    match = match_pairs(pairs, ignore)
    recall_sum, precision_sum, texts, detected = deteval(pairs, ignore)
    matched = (match.truth >= 0).sum()
    return texts, (~match.dont_care).sum(), matched, match.iou.sum(), detected, precision_sum, recall_sum


def count_images(images: Sequence[CachedImage], grid: Grid, base: PostProcess, num_workers: int) -> np.ndarray:
    """:func:`count_image` of all images, in parallel: float64 (images, combinations, 7)."""
    count = partial(count_image, grid=grid, base=base)
    data: Any = images  # a list is a data set, too
    loader: DataLoader[Any] = DataLoader(data, batch_size=None, collate_fn=count, num_workers=num_workers)
    return np.stack([*loader])


def tune(
    module: DetectionModule,
    sources: Sequence[Source],
    grid: Grid,
    device: torch.device | str = "cpu",
    num_workers: int = 0,
) -> Tuned:
    """Choose the post-processing and the input size of a detector on labelled images.

    Raises:
        UserError: no image can be decoded.
    """
    pipeline = module.pipeline
    grid = grid.with_current(pipeline)
    images = collect(module, sources, grid.long_side, device, num_workers)
    if not images:
        raise UserError("tuning: no image of the split can be decoded")
    post = pipeline.postprocess
    counts = count_images(images, grid, post, num_workers)
    now = {"long_side": pipeline.resize.long_side, "thresh": post.thresh, "unclip": post.unclip,
           "unclip_ratio": post.unclip_ratio, "box_thresh": post.box_thresh, "min_size": post.min_size}  # fmt: skip
    return choose(counts, grid.combinations(grid.long_side), now, grid.folds, grid.deteval_weight, grid.repeats)
