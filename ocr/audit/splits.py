"""The splits of a data config as an audit reads them: all that exist, each with a report, and their images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from ocr.data.formats.detect import SPLITS
from ocr.data.index.identity import in_hash_range
from ocr.data.index.report import Report
from ocr.data.sources.build import Source, StoredSource, build_source, check_sources, resolve_sources
from ocr.data.sources.files import FileSource
from ocr.data.sources.joined import Sources
from ocr.errors import UserError
from ocr.migrations import migrate_sources
from ocr.types import Truth
from ocr.utils.typed import faults

COUNTS = ("images", "instances", "ignored")
TEXTS, LETTERS = 3, 60  # of an image that are named; of a text


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
        return Sources(self.sources).counts()


def read_splits(data: Mapping[str, Any], whole: bool = False) -> dict[str, ReadSplit]:
    """The splits of a data config that exist; one with the sources of another is left out.

    Args:
        data: the config; its ``root`` and the three splits are read.
        whole: leave out what is only a hash's part of another split: a folder without parts is its training split.

    Raises:
        UserError: nothing can be read.
    """
    splits: dict[str, ReadSplit] = {}
    root, cache_gb = data.get("root"), data.get("cache_gb", 0.0)
    if problems := faults(Annotated[float, Field(ge=0)], cache_gb, "data.cache_gb"):
        raise UserError("; ".join(problems))
    read_whole: dict[str, Source] = {}
    for split in SPLITS:
        specs = migrate_sources(data.get(split) or [])
        check_sources(specs, f"data.{split}")
        resolved = resolve_sources(specs, root, whole, cache_gb)
        if whole:
            resolved = [{**spec, "hash_range": None} if "hash_range" in spec else spec for spec in resolved]
        if not resolved or any(resolved == other.specs for other in splits.values()):
            continue
        report = Report()
        sources = [_build(spec, root, cache_gb, report, read_whole) for spec in resolved]
        splits[split] = ReadSplit(resolved, sources, report)
    if not splits:
        raise UserError("the data has no split: data.train=[...] or data=folder data.root=<folder>")
    return splits


def _build(
    spec: dict[str, Any], root: str | None, cache_gb: float, report: Report, read_whole: dict[str, Source]
) -> Source:
    """A source. Files that splits share by hash ranges are read once, so that what is wrong with them counts once."""
    if not spec.get("hash_range"):
        return build_source(spec, root, report, cache_gb)
    key = json.dumps({**spec, "hash_range": None}, sort_keys=True, default=str)
    if key not in read_whole:
        read_whole[key] = build_source({**spec, "hash_range": None}, root, report, cache_gb)
    whole = read_whole[key]
    assert isinstance(whole, StoredSource)
    return whole.only(in_hash_range((whole.name(i) for i in range(len(whole))), spec["hash_range"]))


class LabelledImage(NamedTuple):
    """An image that is a file, its size in pixels, its labels, and its split."""

    path: str
    width: int
    height: int
    truth: Truth
    split: str

    def named(self, indices: Sequence[int]) -> str:
        """The path, and the texts that are meant, if any."""
        texts = [self.truth.texts[k] for k in indices[:TEXTS]]
        short = ", ".join(repr(t if len(t) <= LETTERS else f"{t[:LETTERS]}...") for t in texts)
        more = f" and {len(indices) - TEXTS} more" if len(indices) > TEXTS else ""
        return f"{self.path}: {short}{more}" if indices else self.path


def labelled_images(sources: Iterable[Source], split: str, every: int = 1) -> Iterator[LabelledImage]:
    """The images of sources that are files, or one in ``every``."""
    for source in sources:
        if isinstance(source, FileSource):
            for i in range(0, len(source), every):
                width, height = source.index.sizes[i].tolist()
                yield LabelledImage(source.name(i), width, height, source.index.truth(i), split)
