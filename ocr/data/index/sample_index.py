"""All samples of a source in flat arrays.

Workers share the arrays' memory with the main process: nothing in them is a Python object whose reference count
would copy pages, so a worker does not grow with the size of the set. An index on disk is mapped, so that all processes
of a machine, the ranks of a training too, have it in memory once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocr.data.index.arrays import Index, StringTable, join_offsets, offsets_of
from ocr.data.index.check import check_image, check_instances, in_shown_pixels
from ocr.data.index.report import Report
from ocr.geometry.polygons import flatten, unflatten
from ocr.types import Sample, Truth

FEW_UNLOCATED, MAX_SHARE, MAX_SHARE_OF_FEW = 2, 0.25, 0.5  # see _is_mostly_unread


def _is_mostly_unread(unlocated: int, entries: int) -> bool:
    """Whether so many of an image's entries cannot be read that their text would be taught as background."""
    return unlocated > (MAX_SHARE if unlocated > FEW_UNLOCATED else MAX_SHARE_OF_FEW) * entries


def _unlocated(report: Report) -> int:
    """Entries so far that are text somewhere, nobody knows where."""
    return report.counts["too_few_points"] + report.counts["not_finite"]


@dataclass(frozen=True)
class SampleIndex(Index):
    """Samples that passed the checks, in normal form.

    Attributes:
        paths: S image paths.
        sizes: int32 (S, 2), width and height as a viewer shows the image.
        instance_offsets: int64 (S + 1,), instances of sample s are the range between entries s and s + 1.
        points, point_offsets: the flat polygons of all I instances, see :mod:`ocr.geometry.polygons`.
        ignore: bool (I,).
        texts: I transcriptions.
    """

    TABLES = ("paths", "texts")
    paths: StringTable
    sizes: np.ndarray
    instance_offsets: np.ndarray
    points: np.ndarray
    point_offsets: np.ndarray
    ignore: np.ndarray
    texts: StringTable

    @classmethod
    def of(cls, paths: Sequence[str], sizes: Any, truths: Sequence[Truth]) -> SampleIndex:
        """An index in memory of images, their sizes, (S, 2), and their labels."""
        points, point_offsets = flatten([polygon for truth in truths for polygon in truth.polygons])
        return cls(
            StringTable.build(paths),
            np.array(sizes, np.int32).reshape(-1, 2),
            offsets_of([len(truth.polygons) for truth in truths]),
            points,
            point_offsets,
            np.concatenate([np.zeros(0, bool), *(truth.ignore for truth in truths)]),
            StringTable.build([text for truth in truths for text in truth.texts]),
        )

    @classmethod
    def build(cls, samples: Iterable[Sample], report: Report) -> SampleIndex:
        """Check every sample and keep what is sound."""
        paths, sizes, truths = [], [], []
        for sample in samples:
            header = check_image(sample, report)
            shown = in_shown_pixels(sample, header, report) if header is not None else None
            if header is None or shown is None:
                continue
            before = _unlocated(report)
            instances = check_instances(shown, *header.size, report)
            unlocated = sample.entries - len(sample.instances) + _unlocated(report) - before
            where = sample.labels or sample.image
            if sample.entries and not instances:
                report.add("no_sound_label", where, f"{sample.image.name}: none of {sample.entries} entries is sound")
                continue
            if _is_mostly_unread(unlocated, sample.entries):
                words = f"{sample.image.name}: {unlocated} of {sample.entries} entries cannot be read"
                report.add("many_unsound_labels", where, words)
                continue
            paths.append(str(sample.image))
            sizes.append(header.size)
            ignore = np.array([i.ignore for i in instances], bool)
            truths.append(Truth([i.polygon for i in instances], ignore, [i.text for i in instances]))
        return cls.of(paths, sizes, truths)

    @classmethod
    def join(cls, parts: Sequence[SampleIndex]) -> SampleIndex:
        """Several indexes one after the other."""
        return cls(
            StringTable.join([p.paths for p in parts]),
            np.concatenate([p.sizes for p in parts]),
            join_offsets([p.instance_offsets for p in parts]),
            np.concatenate([p.points for p in parts]),
            join_offsets([p.point_offsets for p in parts]),
            np.concatenate([p.ignore for p in parts]),
            StringTable.join([p.texts for p in parts]),
        )

    def only(self, indices: Sequence[int]) -> SampleIndex:
        """An index of these of the samples, in memory."""
        return self.of([self.paths[i] for i in indices], self.sizes[list(indices)], [self.truth(i) for i in indices])

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, i: int) -> Path:
        return Path(self.paths[i])

    def truth(self, i: int) -> Truth:
        """Labels of sample i; the polygons are views, not to be written to."""
        first, last = int(self.instance_offsets[i]), int(self.instance_offsets[i + 1])
        polygons = unflatten(self.points, self.point_offsets[first : last + 1])
        return Truth(polygons, self.ignore[first:last], [self.texts[k] for k in range(first, last)])

    @property
    def instances(self) -> int:
        return len(self.ignore)

    def fingerprint(self) -> str:
        """Hex digest of names, sizes and labels: equal sets have equal ones, wherever they lie."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            digest.update(self.path(i).name.encode("utf-8", "surrogateescape") + b"\0")
        for array in (self.sizes, self.instance_offsets, self.points, self.point_offsets, self.ignore):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]
