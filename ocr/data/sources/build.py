"""A split of a data set: a list of sources, each with a label format, so that sets mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ocr.data.formats import label_format
from ocr.data.formats.detect import fill_in
from ocr.data.formats.files import read_ids
from ocr.data.formats.shards import NAME as SHARDS
from ocr.data.index.cache import cached, stamp
from ocr.data.index.report import Report
from ocr.data.index.sample_index import SampleIndex
from ocr.data.sources.camera import CameraSimulation
from ocr.data.sources.files import FileSource, LabelledFiles, build_index
from ocr.data.sources.joined import Sources
from ocr.data.sources.shards import ShardSource
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.data.storage.mirror import local_folder
from ocr.errors import UserError
from ocr.types import LazySample, Truth
from ocr.utils.typed import Fraction, Seed, faults


class ImageSource(Protocol):
    """Images, which prediction needs."""

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """Name of sample i in messages and prediction files."""

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        """Image uint8 (H, W, 3) RGB and labels of sample i."""

    def sizes(self) -> np.ndarray | None:
        """int32 (S, 2), width and height of the images; None when only loading tells."""


class Source(ImageSource, Protocol):
    """Labelled images, which training and testing need."""

    weight: float

    def open(self, i: int) -> LazySample:
        """Sample i with pixels only as fine as they are needed."""

    def counts(self) -> dict[str, int]:
        """Numbers of images, instances and ignored instances."""

    def fingerprint(self) -> str:
        """Hex digest that tells two different sources apart."""

    def identities(self) -> np.ndarray:
        """int64 (S,), a hash per image that tells whether another source has it, wherever it lies."""


StoredSource = FileSource | ShardSource  # whose images were files once
SOURCE_KINDS: dict[str, Any] = {
    "format": str, "split": str, "images": str | None, "annotations": str | None, "ids": str | None,
    "categories": list[str] | None, "shared_images": bool, "root": str | None, "optional": bool, "weight": float,
    "hash_range": tuple[Fraction, Fraction] | None,
    "count": int, "seed": Seed, "difficulty": float, "of": list[dict[str, Any]],
    "style": str, "fonts": str | None, "alphabets": list[str], "effects": dict[str, Any] | None,
}  # fmt: skip
FILE_SETTINGS = {"images", "annotations", "ids", "hash_range", "categories", "shared_images"}


def check_sources(specs: Any, prefix: str) -> None:
    """Check the kinds of all values in a list of sources; unknown settings are for :func:`build_source`.

    Raises:
        UserError: one is of another kind.
    """
    problems = faults(list[dict[str, Any]] | None, specs, prefix)
    for k, spec in enumerate((specs or ()) if not problems else ()):
        for key, value in spec.items():
            problems += faults(SOURCE_KINDS.get(key, Any), value, f"{prefix}[{k}].{key}")
        if not problems and spec.get("of"):
            check_sources(spec["of"], f"{prefix}[{k}].of")
    if problems:
        raise UserError("; ".join(problems))


def source_root(spec: Mapping[str, Any], root: str | Path | None, cache_gb: float = 0) -> Path:
    """The folder that a source's paths start from: its own ``root``, or that of the data; see :func:`local_folder`."""
    return local_folder(spec.get("root") or root or ".", cache_gb)


def resolve_sources(
    specs: Sequence[Mapping[str, Any]], root: str | None, whole: bool = False, cache_gb: float = 0
) -> list[dict[str, Any]]:
    """Replace ``auto`` in sources by what the folders have; leave out sources whose part does not exist.

    Args:
        specs, root, cache_gb: see :func:`build_source`.
        whole: take all of a folder without parts, whatever the split.

    Raises:
        UserError: nothing is found, or several things are.
    """
    resolved = []
    for spec in specs:
        if spec.get("of"):
            inner = resolve_sources(spec["of"], root, whole, cache_gb)
            part = {**spec, "of": inner} if inner else None
        else:
            part = fill_in(spec, source_root(spec, root, cache_gb), whole)
        if part is not None:
            resolved.append(part)
    return resolved


def build_source(spec: Mapping[str, Any], root: str | Path | None, report: Report, cache_gb: float = 0) -> Source:
    """A source from its config.

    Args:
        spec: ``format``, ``weight`` and, for files, ``images``, ``annotations``, ``ids`` (a file, see
            :func:`read_ids`), ``hash_range`` ([low, high]: only images whose name's hash, 0..1, lies in it), ``root``,
            of formats with categories ``categories``, names of those to take, and ``shared_images``: whether other
            labels describe images of the same folder, which are not missed in these then.
        root: folder or address that relative paths start from, unless the source has a root of its own.
        report: on what is unsound.
        cache_gb: the most that may be kept on disk of what lies elsewhere, in 10^9 bytes.

    Raises:
        UserError: an unknown format or setting, a missing folder, an empty set.
    """
    root = source_root(spec, root, cache_gb)
    name, weight = spec.get("format"), float(spec.get("weight", 1.0))
    spec = {key: value for key, value in spec.items() if key not in ("root", "format", "weight")}
    if not weight > 0:
        raise UserError(f"the weight of a source must be positive, got {weight}")
    if name in ("camera", "photographed"):  # the latter is the name of earlier releases
        if fault := _fault(spec, {"of", "seed", "difficulty", "effects"}, "of"):
            raise UserError(
                f"a camera source takes of (a list of sources), seed, difficulty, effects and weight; {fault}"
            )
        of = [source for part in spec.pop("of") if len(source := build_source(part, root, report, cache_gb))]
        return CameraSimulation(of, weight=weight, **spec)
    if name == "synthetic":
        try:
            return SyntheticReceipts(weight=weight, **spec)
        except TypeError as error:
            raise UserError(f"synthetic source: {error}") from error
    if name == SHARDS:
        refused = {key for key in ("ids", "categories") if spec.get(key)}
        if fault := _fault(spec, FILE_SETTINGS - refused, "images"):
            raise UserError(f"a source of shards takes root, images (their folder), hash_range and weight; {fault}")
        return ShardSource.of_folder(root / spec["images"], spec.get("hash_range"), cache_gb, weight)
    return FileSource(_file_index(str(name), spec, root, report), weight)


def _fault(spec: Mapping[str, Any], known: Set[str], *needed: str) -> str:
    """The settings of a source that are unknown or missing, in words; empty where there are none."""
    if unknown := sorted(spec.keys() - known):
        return f"unknown: {', '.join(unknown)}"
    return "" if all(spec.get(key) for key in needed) else f"{' or '.join(needed)} is missing"


def _file_index(name: str, spec: Mapping[str, Any], root: Path, report: Report) -> SampleIndex:
    form = label_format(name)  # an unknown format is the first thing to say
    if spec.get("categories") and not form.has_categories:
        raise UserError(f"labels of format {name} have no categories: leave out data.categories")
    if fault := _fault(spec, FILE_SETTINGS, "images", "annotations"):
        raise UserError(
            f"a source of format {name} takes root, images, annotations, ids, categories, hash_range, "
            f"shared_images and weight; {fault}"
        )
    images, annotations = root / spec["images"], root / spec["annotations"]
    if not images.is_dir():
        raise UserError(f"image folder not found: {images} (set data.root=<folder>)")
    ids = read_ids(root / spec["ids"]) if spec.get("ids") else None
    files = LabelledFiles(
        name, images, annotations, ids, spec.get("hash_range"), spec.get("categories"), bool(spec.get("shared_images"))
    )
    key = stamp([name, spec, str(root.resolve()), ids], [images, annotations])
    return cached(key, report, partial(build_index, files), SampleIndex)


def build_sources(
    specs: list[Mapping[str, Any]], root: str | None, split: str, strict: bool, cache_gb: float = 0
) -> tuple[list[Source], Report]:
    """All sources of a split, with the report on what was unsound in them.

    Raises:
        UserError: nothing is left that the split can be used for.
    """
    report = Report(strict)
    sources = [build_source(spec, root, report, cache_gb) for spec in specs]
    report.log(split)
    totals = Sources(sources).counts()
    if not specs or totals["images"] == 0:
        ranges = [spec["hash_range"] for spec in specs if spec.get("hash_range")]
        hint = f", with a hash_range of {ranges}: the hashes of few names may all fall on one side; lower "
        hint = f"{hint}data.val_from, or write id lists train.txt and val.txt" if ranges and not report.problems else ""
        raise UserError(_nothing_left(split, f"no usable image{hint}", report))
    if totals["instances"] == totals["ignored"]:
        reason = f"all {totals['instances']} labelled instances of {totals['images']} image(s) are to be ignored"
        raise UserError(_nothing_left(split, reason if totals["instances"] else "no labelled text", report))
    return [s for s in sources if len(s)], report


def _nothing_left(split: str, reason: str, report: Report) -> str:
    problems = "; ".join(f"{kind} x {count}, e.g. {report.examples[kind][0]}" for kind, count in report.counts.items())
    return f"the {split} split has nothing to learn from or test on: {reason}" + (f" ({problems})" if problems else "")
