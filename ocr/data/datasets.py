"""Samples to network input, for training and for evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from ocr.data.index.check import notes_on
from ocr.data.samplers import PADDING_INDEX
from ocr.data.sources.build import ImageSource, Source
from ocr.data.sources.joined import Sources
from ocr.data.sources.shards import ShardSource
from ocr.data.targets.maps import TargetMaker
from ocr.data.transforms.decode import UndecodableImage, resize_and_pad, shrink_for
from ocr.data.transforms.random import RandomGeometry, RandomLight, warp_image, warp_points
from ocr.errors import UserError
from ocr.geometry.polygons import flatten, unflatten
from ocr.pipeline import Pipeline
from ocr.utils.machine import cores

log = logging.getLogger(__name__)
SORTED_SAMPLES = 1024  # of shards that are sorted by size at a time


class TrainSet(Dataset[dict[str, Any]]):
    """Random crops with their target maps; the key is (sample, seed of its randomness), see :class:`EpochSampler`.

    Args:
        strict: raise when an image cannot be decoded; otherwise the next one takes its place, with a warning.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        pipeline: Pipeline,
        geometry: RandomGeometry,
        light: RandomLight,
        targets: TargetMaker,
        strict: bool = False,
    ) -> None:
        self.samples = Sources(sources)
        self.pipeline, self.geometry, self.light, self.targets = pipeline, geometry, light, targets
        self.strict = strict
        self.fill = pipeline.fill_colour

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, torch.Tensor | int]:
        """``index``; ``image`` uint8 (H, W, 3) RGB; ``targets`` uint8 (4, H, W), see :class:`TargetMaker`."""
        index, seed = key if isinstance(key, tuple) else (key, key)  # a plain index: the same crop every time
        for step in range(len(self.samples)):
            position = (index + step) % len(self.samples)
            try:
                return self._crop(position, np.random.default_rng(seed)) | {"index": index}
            except UndecodableImage as error:
                if self.strict:
                    raise UserError(f"{error} (data.strict=true)") from error
                log.warning("%s; another image takes its place", error)
        raise UserError("no image of the training set can be decoded")

    def __getitems__(self, keys: Sequence[tuple[int, int] | int]) -> list[dict[str, torch.Tensor | int]]:
        """A batch of items; without loader processes, all cores work on it while the network waits."""
        if get_worker_info() is not None:
            return [self[key] for key in keys]
        with ThreadPoolExecutor(cores()) as pool:
            return list(pool.map(self.__getitem__, keys))

    def _crop(self, position: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        picture = self.samples.open(position)
        frame, truth = (picture.width, picture.height), picture.truth
        size = self.geometry.crop_size
        matrix = self.geometry.matrix(*frame, truth, self.pipeline.resize, rng)
        image = picture.pixels(shrink_for(float(np.linalg.norm(matrix[:, :2], axis=0).max())))
        from_pixels = matrix @ np.diag([frame[0] / image.shape[1], frame[1] / image.shape[0], 1.0])
        crop = self.light(warp_image(image, from_pixels, size, self.fill), rng)
        polygons, seen = _warped(truth.polygons, matrix, size)
        sheet = warp_points(np.array([[0, 0], [frame[0], 0], frame, [0, frame[1]]], np.float32), matrix)
        maps = self.targets([polygons[k] for k in seen], truth.ignore[seen], size[1], size[0], sheet)
        return {"image": torch.from_numpy(crop), "targets": torch.from_numpy(maps)}


def _warped(
    polygons: Sequence[np.ndarray], matrix: np.ndarray, size: Sequence[int]
) -> tuple[list[np.ndarray], list[int]]:
    """Transform polygons by an affine matrix; also return which of them reach into (0, 0) .. ``size``."""
    points, starts = flatten(polygons)
    if not len(points):
        return [], []
    points = warp_points(points, matrix)
    low, high = (f.reduceat(points, starts[:-1]) for f in (np.minimum, np.maximum))
    seen = (high > 0).all(axis=1) & (low < size).all(axis=1)
    return unflatten(points, starts), np.flatnonzero(seen).tolist()


class EvalSet(Dataset[dict[str, Any] | None]):
    """Whole images at network size with their truth in original pixels."""

    def __init__(self, sources: Sequence[ImageSource], pipeline: Pipeline, strict: bool = False) -> None:
        self.samples = Sources(sources)
        self.pipeline = pipeline
        self.strict = strict
        self.fill = pipeline.fill_colour

    def __len__(self) -> int:
        return len(self.samples)

    def by_size(self) -> list[int] | None:
        """Samples in an order that brings those of equal network size together; None when sizes are not known.

        Those of shards stay within :data:`SORTED_SAMPLES` of their order, so that few parts of shards are read at a
        time.
        """
        sizes = self.samples.sizes()
        if sizes is None:
            return None
        padded = np.array([self.pipeline.resize.padded_size(int(w), int(h)) for w, h in sizes]).reshape(-1, 2)
        in_shards = any(isinstance(source, ShardSource) for source in self.samples.sources)
        window = np.arange(len(padded)) // (SORTED_SAMPLES if in_shards else max(1, len(padded)))
        return np.lexsort((padded[:, 1], padded[:, 0], window)).tolist()

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        """A sample at network size; None for one that is not there or cannot be decoded.

        ``index``, ``name``, ``image`` uint8 (H, W, 3) padded, ``size`` (width, height) of the file's, ``truth``,
        ``notes`` (see :func:`notes_on`).
        """
        if index == PADDING_INDEX:
            return None
        try:
            image, truth = self.samples.load(index)
        except UndecodableImage as error:
            if self.strict:
                raise UserError(f"{error} (data.strict=true)") from error
            log.warning("%s; left out", error)
            return None
        height, width = image.shape[:2]
        padded, name = resize_and_pad(image, self.pipeline.resize, self.fill), self.samples.name(index)
        return {
            "index": index,
            "image": torch.from_numpy(padded),
            "size": (width, height),
            "truth": truth,
            "name": name,
            "notes": notes_on(name, image, self.pipeline.resize),
        }


def collate_eval(items: list[dict[str, Any] | None]) -> dict[str, list[Any]]:
    """Items to a batch of lists; images keep their own sizes, so a result never depends on its neighbours."""
    kept = [item for item in items if item is not None]
    return {
        "indices": [item["index"] for item in kept],
        "images": [item["image"] for item in kept],
        "sizes": [item["size"] for item in kept],
        "truths": [item["truth"] for item in kept],
        "names": [item["name"] for item in kept],
        "notes": [item["notes"] for item in kept],
    }
