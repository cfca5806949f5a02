"""Audit of a labelled set before anything is trained on it: what is there, what of it can be used, what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ocr.data.formats.detect import SPLITS
from ocr.data.index.identity import name_hash
from ocr.data.index.report import KINDS, NOTES, Report
from ocr.data.sources.build import FileSource, Source, build_source, check_sources
from ocr.data.sources.splits import resolve_sources
from ocr.data.statistics import TextFigures, labelled_images
from ocr.data.targets.maps import SHRINK_MAP, TargetMaker
from ocr.errors import UserError
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import compare
from ocr.migrations import migrate_sources
from ocr.models.postprocess.db import detect
from ocr.pipeline import Pipeline
from ocr.utils.config import instantiate
from ocr.utils.files import write_atomic

MANY_OUTSIDE = 0.2  # of the texts: their coordinates are of another kind or frame
EXAMPLES = 20  # lost texts that are listed
COUNTS = ("images", "instances", "ignored")


@dataclass(frozen=True)
class AuditSettings:
    """``configs/audit.yaml``."""

    data: dict[str, Any]
    pipeline: dict[str, Any]
    output: str | None
    json: bool
    quick: bool


@dataclass(frozen=True)
class ReadSplit:
    """A split as it was read.

    Attributes:
        specs: its sources as they lie in the folder.
        sources: what of them can be used.
        report: what cannot, and notes.
    """

    specs: list[dict[str, Any]]
    sources: list[Source]
    report: Report

    def counts(self) -> dict[str, int]:
        """Images, instances (ignored ones included) and ignored instances."""
        return {key: sum(source.counts()[key] for source in self.sources) for key in COUNTS}


def read_splits(data: Mapping[str, Any], whole: bool = False) -> dict[str, ReadSplit]:
    """The splits of a data config that exist; one with the sources of another is left out.

    Args:
        data: the config; its ``root`` and the three splits are read.
        whole: leave out what is only a hash's part of another split: a folder without parts is its training split.

    Raises:
        UserError: nothing can be read.
    """
    splits: dict[str, ReadSplit] = {}
    root = Path(data.get("root") or ".").expanduser()
    read_whole: dict[str, Source] = {}
    for split in SPLITS:
        specs = migrate_sources(data.get(split) or [])
        check_sources(specs, f"data.{split}")
        resolved = resolve_sources(specs, data.get("root"), whole)
        if whole:
            resolved = [{**spec, "hash_range": None} if "hash_range" in spec else spec for spec in resolved]
        if not resolved or any(resolved == other.specs for other in splits.values()):
            continue
        report = Report()
        sources = [_build(spec, root, report, read_whole) for spec in resolved]
        splits[split] = ReadSplit(resolved, sources, report)
    if not splits:
        raise UserError("the data has no split: data.train=[...] or data=folder data.root=<folder>")
    return splits


def _build(spec: dict[str, Any], root: Path, report: Report, read_whole: dict[str, Source]) -> Source:
    """A source. Files that splits share by hash ranges are read once, so that what is wrong with them counts once."""
    if not spec.get("hash_range"):
        return build_source(spec, root, report)
    key = json.dumps({**spec, "hash_range": None}, sort_keys=True, default=str)
    if key not in read_whole:
        read_whole[key] = build_source({**spec, "hash_range": None}, root, report)
    whole = read_whole[key]
    assert isinstance(whole, FileSource)
    low, high = spec["hash_range"]
    return whole.only([i for i in range(len(whole)) if low <= name_hash(Path(whole.name(i)).stem) < high])


def audit(settings: AuditSettings) -> bool:
    """Read all labels and print what was found; on request also into ``audit.json``.

    Returns:
        Whether nothing has to be mended.

    Raises:
        UserError: nothing can be read, or nothing can be learned from it.
    """
    splits = read_splits(settings.data)
    merged = Report()
    for split in splits.values():
        merged.merge(split.report.to_dict())
    counts = {name: split.counts() for name, split in splits.items()}
    _compare_splits(splits, merged)
    total = {key: sum(values[key] for values in counts.values()) for key in COUNTS}
    if total["instances"] == total["ignored"]:
        what = f"all {total['instances']} instances are ignored" if total["instances"] else "no labelled text"
        reasons = "; ".join(f"{kind} x {n}, e.g. {merged.examples[kind][0]}" for kind, n in merged.counts.items())
        words = f"nothing can be learned: {what} in {total['images']} image(s)"
        raise UserError(words + (f" ({reasons})" if reasons else ""))
    empty = [name for name, values in counts.items() if not values["images"]]
    pipeline, targets = Pipeline.from_dict(settings.pipeline), instantiate(settings.data["targets"])
    images = (image for split in splits.values() for image in labelled_images(split.sources))
    figures = TextFigures.of(images, pipeline.resize, targets.min_text_size)
    result = {
        "total": total,
        "splits": counts,
        "problems": {kind: n for kind, n in merged.counts.items() if kind in KINDS},
        "notes": {kind: n for kind, n in merged.counts.items() if kind in NOTES},
        "examples": merged.examples,
        "empty_splits": empty,
        "text": figures.summary(targets.min_text_size),
        "ceiling": None if settings.quick else ceiling(splits.values(), pipeline, targets),
        "sources": {name: split.specs for name, split in splits.items()},
    }
    text = json.dumps(result, indent=1, ensure_ascii=False)
    if settings.output:
        write_atomic(Path(settings.output).expanduser() / "audit.json", text + "\n")
    if settings.json:
        print(text)
    else:
        _print_tables(counts | {"total": total}, merged)
        _print_figures(result, pipeline.resize.long_side)
    for name in empty:
        hint = "lower data.val_from, or write id lists train.txt and val.txt"
        print(f"the {name} split has no image: {hint}", file=sys.stderr)
    return not result["problems"] and not empty


def _print_tables(counts: Mapping[str, Mapping[str, int]], report: Report) -> None:
    console = Console()
    table = Table(title="audit", title_justify="left")
    for column in ("split", *COUNTS):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, values in counts.items():
        table.add_row(name, *(str(values[key]) for key in COUNTS), style="bold" if name == "total" else None)
    console.print(table)
    for line in report.lines():
        print(line)


def _compare_splits(splits: Mapping[str, ReadSplit], report: Report) -> None:
    """Count images that two splits have, and labels of another frame than the image's, of which many reach outside."""
    seen: dict[int, str] = {}
    for name, split in splits.items():
        for source in split.sources:
            for k, identity in enumerate(source.identities().tolist()):
                if (other := seen.setdefault(identity, name)) != name:
                    report.add("in_two_splits", source.name(k), f"in {other} and {name}")
    instances = sum(split.counts()["instances"] for split in splits.values())
    outside = report.counts["partly_outside"]
    if outside > MANY_OUTSIDE * instances:
        report.add("many_partly_outside", "all splits", f"{outside} of {instances} texts reach outside their images")


def ceiling(splits: Iterable[ReadSplit], pipeline: Pipeline, targets: TargetMaker) -> dict[str, Any]:
    """The score of a network that draws the training targets without a fault: nothing trained can be expected beyond.

    Args:
        splits: whose labels are sent through targets and post-processing, at network size.
        pipeline: resize policy and post-processing.
        targets: of training.

    Returns:
        ``hmean``, ``precision``, ``recall``; ``lost``, texts that are not found again, and examples of them.
    """
    totals, lost = np.zeros(Hmean.size), []
    for split in splits:
        for name, width, height, truth in labelled_images(split.sources):
            content, padded = pipeline.resize.content_size(width, height), pipeline.resize.padded_size(width, height)
            scale = np.array(content) / (width, height)
            polygons = [(polygon * scale).astype(np.float32) for polygon in truth.polygons]
            maps = targets(polygons, truth.ignore, padded[1], padded[0])
            detections = detect(maps[SHRINK_MAP].astype(np.float32), width, height, pipeline)
            image = compare(detections, truth)
            totals += Hmean().count(image)
            missed = np.flatnonzero((image.match.truth < 0) & ~np.asarray(truth.ignore, bool)).tolist()
            lost += [f"{name}: {truth.texts[k]!r}" for k in missed]
    return Hmean().scores(totals) | {"lost": len(lost), "examples": lost[:EXAMPLES]}


def _print_figures(result: Mapping[str, Any], long_side: int) -> None:
    text, best = result["text"], result["ceiling"]
    if not text["text_height"]:
        return
    heights = ", ".join(f"{float(q):.0%} {value:g}" for q, value in text["text_height"].items())
    print(f"text height at network input (long side {long_side}), pixels: {heights}")
    if text["too_small"]:
        needed = text["long_side_needed"]
        more = f"; a long side of {needed} would leave one in a hundred" if needed > long_side else ""
        print(f"{text['too_small']} text(s) are below {text['min_text_size']:g} pixels and never learned{more}")
    if text["overlapping"]:
        print(f"{text['overlapping']} text(s) lie on another text with more than half of their area")
    if best is not None:
        example = f", e.g. {best['examples'][0]}" if best["examples"] else ""
        print(f"a faultless network would have hmean {best['hmean']:.4f} here: {best['lost']} text(s) lost{example}")
