"""Post-processing parameters chosen on a labelled split: one forward pass an input size, then many combinations.

The expensive parts are shared: contours and their scores are found once a threshold, polygons and their overlaps with
the labels once a way of growing them; score thresholds and size limits only choose among them. Counts are kept for
each image, so that cross-validation costs nothing: the best combination on four fifths of the images is scored on the
fifth that it was not chosen on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ocr.data.datasets import EvalSet, collate_eval
from ocr.data.sources.build import Source
from ocr.errors import UserError
from ocr.metrics.deteval import deteval
from ocr.metrics.matching import Pairs, match_pairs, pair
from ocr.metrics.scores import scores
from ocr.models.postprocess.db import find_candidates, to_image, unclip
from ocr.pipeline import Pipeline, PostProcess
from ocr.training.module import DetectionModule
from ocr.types import Truth

MAP_LEVELS = (
    4095  # of a cached probability; with 255 hmean was not that of the network itself (0.9748 for 0.9744 on SROIE)
)
FIGURES = ("objective", "precision", "recall", "hmean", "deteval_hmean", "mean_iou")  # what is said of a combination


@dataclass(frozen=True)
class Grid:
    """What is tried: every combination.

    Attributes:
        long_side: input sizes; empty for the pipeline's own.
        thresh, box_thresh, min_size: of :class:`ocr.pipeline.PostProcess`.
        unclip: amounts by kind.
        folds, repeats: of the cross-validation, and how often images are shuffled into folds.
        deteval_weight: w in the objective, (1 - w) hmean at IoU 0.5 + w DetEval's hmean. IoU 0.5 hardly sees whether
            boxes cover their text, which a text recogniser needs and DetEval measures.
    """

    long_side: tuple[int, ...]
    thresh: tuple[float, ...]
    box_thresh: tuple[float, ...]
    min_size: tuple[float, ...]
    unclip: dict[str, tuple[float, ...]]
    folds: int
    repeats: int
    deteval_weight: float

    def __post_init__(self) -> None:
        for name in ("long_side", "thresh", "box_thresh", "min_size"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))
            if not getattr(self, name) and name != "long_side":
                raise UserError(f"tuning.{name} is empty: nothing to try")
        object.__setattr__(self, "unclip", {kind: tuple(sorted(set(v))) for kind, v in self.unclip.items() if v})
        if not self.unclip:
            raise UserError("tuning.unclip is empty: nothing to try")
        if self.folds < 2:
            raise UserError(f"tuning.folds must be at least 2, got {self.folds}")
        if self.repeats < 1:
            raise UserError(f"tuning.repeats must be at least 1, got {self.repeats}")
        if not 0 <= self.deteval_weight <= 1:
            raise UserError(f"tuning.deteval_weight must lie in 0..1, got {self.deteval_weight}")

    def unclip_options(self) -> list[tuple[str, float]]:
        return [(kind, amount) for kind, amounts in self.unclip.items() for amount in amounts]

    def with_current(self, pipeline: Pipeline) -> Grid:
        """The pipeline's own values added, so that what there is now is among what is compared."""
        now = pipeline.postprocess
        unclip = {**self.unclip, now.unclip: (*self.unclip.get(now.unclip, ()), now.unclip_ratio)}
        return replace(
            self, long_side=(*self.long_side, pipeline.resize.long_side), thresh=(*self.thresh, now.thresh),
            box_thresh=(*self.box_thresh, now.box_thresh), min_size=(*self.min_size, now.min_size), unclip=unclip,
        )  # fmt: skip

    def combinations(self, long_sides: Sequence[int]) -> list[dict[str, Any]]:
        """In the order of :func:`count_image`'s rows."""
        return [
            {"long_side": side, "thresh": t, "unclip": kind, "unclip_ratio": amount, "box_thresh": b, "min_size": m}
            for side, t, (kind, amount), b, m in product(
                long_sides, self.thresh, self.unclip_options(), self.box_thresh, self.min_size
            )
        ]


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


class _Counting(Dataset[torch.Tensor]):
    def __init__(self, images: Sequence[CachedImage], grid: Grid, base: PostProcess) -> None:
        self.images, self.grid, self.base = images, grid, base

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> torch.Tensor:
        return torch.from_numpy(count_image(self.images[k], self.grid, self.base))


def count_images(images: Sequence[CachedImage], grid: Grid, base: PostProcess, num_workers: int) -> np.ndarray:
    """:func:`count_image` of all images, in parallel: float64 (images, combinations, 7)."""
    loader = DataLoader(_Counting(images, grid, base), batch_size=None, num_workers=num_workers)
    return np.stack([counts.numpy() for counts in loader])


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        before, best: the pipeline's combination and the one to take, with their :data:`FIGURES`.
        held_out: the figures of all images, each under the combinations chosen without its folds.
        held_out_spread: standard deviation over folds of the gain in objective.
        kept_current: whether the pipeline's own combination is the one to take since choosing loses on held-out images.
        table: all combinations, those of the highest objective first.
    """

    before: dict[str, Any]
    best: dict[str, Any]
    held_out: dict[str, float]
    held_out_spread: float
    kept_current: bool
    table: list[dict[str, Any]]

    def gain(self, figure: str = "objective") -> float:
        """On images that the choice was not made on."""
        return self.held_out[figure] - self.before[figure]

    def pipeline(self, old: Pipeline) -> Pipeline:
        """The old one with the best combination."""
        resize = replace(old.resize, long_side=self.best["long_side"])
        names = ("thresh", "box_thresh", "min_size", "unclip", "unclip_ratio")
        return replace(old, resize=resize, postprocess=replace(old.postprocess, **{n: self.best[n] for n in names}))

    def facts(self) -> dict[str, Any]:
        """Plain types, without the table."""
        facts = {k: v for k, v in asdict(self).items() if k != "table"}
        return facts | {"gain": self.gain(), "combinations": len(self.table)}


def choose(
    counts: np.ndarray,
    combinations: Sequence[dict[str, Any]],
    now: dict[str, Any],
    folds: int,
    deteval_weight: float,
    repeats: int,
) -> Tuned:
    """The best combination, and what choosing one gains on images that it is not chosen on.

    Where it loses there, as it may with few images, the pipeline's own combination is kept.

    Args:
        counts: float64 (images, combinations, 7), see :func:`count_image`.
        combinations: what each row stands for.
        now: the pipeline's own, one of them.
        folds: images are dealt out in turn; at most one fold an image.
        deteval_weight, repeats: see :class:`Grid`; after the first, images are dealt out in random order, always the
            same.
    """
    figures = partial(_figures, deteval_weight=deteval_weight)
    whole, order = counts.sum(axis=0), np.arange(len(counts))
    rows = [{**combination, **figures(total)} for combination, total in zip(combinations, whole.tolist())]
    here = combinations.index(now)
    held_out, gains, rng = np.zeros(counts.shape[2]), [], np.random.default_rng(0)
    for _ in range(repeats):
        for k in range(min(folds, len(counts))):
            part = counts[order[k::folds]].sum(axis=0)
            chosen = _best(whole - part, deteval_weight) if len(counts) > 1 else here
            held_out += part[chosen]
            gains.append(figures(part[chosen].tolist())["objective"] - figures(part[here].tolist())["objective"])
        order = rng.permutation(len(counts))
    outside = figures(held_out.tolist())
    loses = (
        outside["objective"] < rows[here]["objective"] - 1e-9
    )  # sums of the same counts may differ in their last digit
    best = here if loses else _best(whole, deteval_weight, prefer=here)
    table = sorted(rows, key=lambda row: -row["objective"])
    return Tuned(rows[here], rows[best], outside, float(np.std(gains)), loses, table)


def _figures(total: Sequence[float], deteval_weight: float) -> dict[str, float]:
    """:data:`FIGURES` of counts summed over images."""
    texts, detections, matched, overlap, deteval_detections, precision_sum, recall_sum = total
    plain = scores(matched, detections, matched, texts)
    deteval_hmean = scores(precision_sum, deteval_detections, recall_sum, texts)["hmean"]
    objective = (1 - deteval_weight) * plain["hmean"] + deteval_weight * deteval_hmean
    mean_iou = overlap / matched if matched else 0.0
    return {"objective": objective, **plain, "deteval_hmean": deteval_hmean, "mean_iou": mean_iou}


def _best(total: np.ndarray, deteval_weight: float, prefer: int | None = None) -> int:
    """Index of the highest objective; what there is already wins a tie.

    ``total`` are counts of each combination summed over images, (combinations, 7).
    """
    objective = [_figures(row, deteval_weight)["objective"] for row in total.tolist()]
    best = max(range(len(objective)), key=objective.__getitem__)
    return prefer if prefer is not None and objective[prefer] == objective[best] else best


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


def surface(table: Sequence[dict[str, Any]], x: str, y: str) -> Iterator[tuple[Any, Any, float]]:
    """The highest objective for every pair of values of two parameters: (x, y, objective)."""
    best: dict[tuple[Any, Any], float] = {}
    for row in table:
        key = row[x], row[y]
        best[key] = max(best.get(key, 0.0), row["objective"])
    for (a, b), value in sorted(best.items()):
        yield a, b, value
