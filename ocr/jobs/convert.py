"""Conversion of a labelled set from any format that can be read into any that can be written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocr.audit.splits import read_splits
from ocr.data.formats.shards import NAME as SHARDS
from ocr.data.formats.shards import ShardSample, write_shards
from ocr.data.formats.writers import drop_what_cannot_be_said, label_line, writable, write_labels
from ocr.data.index.identity import name_hash
from ocr.data.sources.build import StoredSource
from ocr.data.storage.remote import is_remote
from ocr.errors import UserError
from ocr.utils.files import make_folder, write_atomic

log = logging.getLogger(__name__)
MEGABYTE = 10**6
MAX_REASONS = 4  # lines of the report in a message


@dataclass(frozen=True)
class ConvertSettings:
    """``configs/convert.yaml``."""

    data: dict[str, Any]
    format: str
    output: str
    shard_mb: float


def convert(settings: ConvertSettings) -> dict[str, Path]:
    """Write images and labels; ``data=folder data.root=<output>`` reads them.

    A set with parts gets a folder per part. Images are linked, or copied to another file system; names stay unless two
    are equal. Shards have them in the order of their names' hashes, so that those of a shop do not stand together.

    Returns:
        The label file or folder of each split.

    Raises:
        UserError: the format cannot be written, the output is not empty, or the set has images that are no files.
    """
    if settings.format not in (known := [*writable(), SHARDS]):
        raise UserError(f"format={settings.format} cannot be written; known: {', '.join(known)}")
    if not settings.shard_mb > 0:
        raise UserError(f"shard_mb must be above 0, got {settings.shard_mb}")
    if is_remote(settings.output):
        raise UserError(f"output={settings.output}: name a folder here, and copy it there when it is written")
    output = Path(settings.output).expanduser()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"output={output} is not an empty folder: name another")
    splits = read_splits(settings.data, whole=True)
    if not any(split.counts()["images"] for split in splits.values()):
        reasons = [line.strip() for split in splits.values() for line in split.report.lines()]
        raise UserError(f"nothing to convert: no usable image ({'; '.join(reasons[:MAX_REASONS])})")
    make_folder(output, "output")
    written, images = {}, {}
    for name, split in splits.items():
        split.report.log(name)
        folder = output / name if len(splits) > 1 or name == "test" else output
        sources = [source for source in split.sources if isinstance(source, StoredSource)]
        if len(sources) < len(split.sources):
            raise UserError(f"data.{name} has sources that are no files (synthetic, camera): nothing to convert")
        if settings.format == SHARDS:
            folder.mkdir(exist_ok=True)
            written[name] = write_shards(_samples_to_write(sources), folder, round(settings.shard_mb * MEGABYTE))
            continue
        chosen = writable()[settings.format]
        samples = ((source.name(i), source.open(i)) for source, i in _samples(sources))
        lines = [label_line(name, sample.width, sample.height, sample.truth) for name, sample in samples]
        for words in drop_what_cannot_be_said(chosen, lines):
            log.warning("%s: %s", name, words)
        names = _place_images(sources, folder / "images")
        written[name] = write_labels(chosen, lines, names, folder, "labels")
        images[name] = (folder / "images").relative_to(output).as_posix()
    if images and chosen.describe:
        for file, text in chosen.describe(images).items():
            write_atomic(output / file, text)
    return written


def _samples(sources: Sequence[StoredSource]) -> Iterator[tuple[StoredSource, int]]:
    return ((source, i) for source in sources for i in range(len(source)))


def _samples_to_write(sources: Sequence[StoredSource]) -> Iterator[ShardSample]:
    """Yield all samples, in the order of the hashes of their names."""
    places = [*_samples(sources)]
    names = [Path(source.name(i)).name for source, i in places]
    for k in np.argsort([name_hash(name) for name in names], kind="stable").tolist():
        source, i = places[k]
        sample = source.open(i)
        yield ShardSample(names[k], source.image_file(i), sample.width, sample.height, sample.truth)


def _place_images(sources: Sequence[StoredSource], folder: Path) -> list[str]:
    """Links or copies of images in a folder; their names there, none of which share a stem."""
    folder.mkdir(parents=True, exist_ok=True)
    stems: set[str] = set()
    names = []
    for source, i in _samples(sources):
        path = Path(source.name(i))
        stem, number = path.stem, 1
        while stem.casefold() in stems:
            number += 1
            stem = f"{path.parent.name}_{path.stem}" if number == 2 else f"{path.parent.name}_{path.stem}_{number}"
        stems.add(stem.casefold())
        target = folder / f"{stem}{path.suffix}"
        try:
            os.link(path.resolve(), target)
        except OSError:  # another file system, or no file of its own
            target.write_bytes(source.image_file(i))
        names.append(target.name)
    return names
