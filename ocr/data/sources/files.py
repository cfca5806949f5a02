"""Samples of loose files: images on disk with labels from a reader."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.formats import label_format
from ocr.data.formats.files import list_images
from ocr.data.formats.pairing import stems
from ocr.data.index.identity import file_hashes, name_hash
from ocr.data.index.report import Report
from ocr.data.index.sample_index import SampleIndex
from ocr.data.transforms.decode import decode
from ocr.types import LazySample, Truth
from ocr.utils.machine import cores

PARALLEL_MIN_IMAGES = 4000  # images; below that one process is as quick
IMAGES_PER_TASK = 2000  # at least


@dataclass
class FileSource:
    """Images on disk with labels from a reader."""

    index: SampleIndex
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.index)

    def name(self, i: int) -> str:
        return str(self.index.path(i))

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        return decode(self.index.path(i)), self.index.truth(i)

    def open(self, i: int) -> LazySample:
        width, height = self.index.sizes[i].tolist()
        return LazySample(width, height, self.index.truth(i), partial(decode, self.index.path(i)))

    def sizes(self) -> np.ndarray:
        return self.index.sizes

    def counts(self) -> dict[str, int]:
        return {"images": len(self.index), "instances": self.index.instances, "ignored": int(self.index.ignore.sum())}

    def fingerprint(self) -> str:
        return self.index.fingerprint()

    def identities(self) -> np.ndarray:
        """Hashes of file name, length in bytes, width and height."""
        return file_hashes((self.index.path(i) for i in range(len(self))), self.index.sizes.tolist())

    def image_file(self, i: int) -> bytes:
        """The content of sample i's image file."""
        return self.index.path(i).read_bytes()

    def only(self, indices: Sequence[int]) -> FileSource:
        """The source with these of its samples."""
        return FileSource(self.index.only(indices), self.weight)


@dataclass(frozen=True)
class LabelledFiles:
    """A labelled set on disk, or the part of one that a process reads.

    Args:
        name: of the label format.
        images: the folder of images.
        annotations: the folder or file of labels.
        ids: names of the images to take; None: all.
        hash_range: see :func:`build_source`.
        categories: of the objects to take; None: all.
        shared_images: see :func:`build_source`.
    """

    name: str
    images: Path
    annotations: Path
    ids: Sequence[str] | None = None
    hash_range: Sequence[float] | None = None
    categories: Sequence[str] | None = None
    shared_images: bool = False


def build_index(files: LabelledFiles, report: Report) -> SampleIndex:
    """Read and check a set; a large one with one label file per image in several processes."""
    form = label_format(files.name)
    if not form.per_image or len(files.ids or list_images(files.images)) < PARALLEL_MIN_IMAGES:
        return _build_part(files, report)
    ids = list(files.ids) if files.ids else stems(files.images, files.annotations, *form.naming(files.annotations))
    size = max(IMAGES_PER_TASK, -(-len(ids) // cores()))  # every task lists the folders again: few, large ones
    parts = [replace(files, ids=ids[k : k + size]) for k in range(0, len(ids), size)]
    built = []
    # not "fork": W&B's threads run already, and a lock that one holds would stay locked in the child
    method = "forkserver" if "forkserver" in get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(min(cores(), len(parts)), mp_context=get_context(method)) as pool:
        for index, part_report in pool.map(partial(_part, strict=report.strict), parts):
            report.merge(part_report)
            built.append(index)
    return SampleIndex.join(built)


def _part(files: LabelledFiles, strict: bool) -> tuple[SampleIndex, dict[str, Any]]:
    report = Report(strict)
    return _build_part(files, report), report.to_dict()


def _build_part(files: LabelledFiles, report: Report) -> SampleIndex:
    report.counted_as = {"image_without_label": "unlisted_image"} if files.shared_images else {}
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite: the checks count it
        form, categories = label_format(files.name), files.categories or None
        samples = form.read(files.images, files.annotations, files.ids, report, categories)
        if files.hash_range:
            low, high = files.hash_range
            samples = (s for s in samples if low <= name_hash(s.image.stem) < high)
        return SampleIndex.build(samples, report)
