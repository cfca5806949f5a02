"""Conversion of a labelled set from any format that can be read into any that can be written."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocr.audit.splits import read_splits
from ocr.audit.statistics import labelled_images
from ocr.data.formats.writers import check_formats, drop_what_cannot_be_said, label_line, writable, write_labels
from ocr.data.sources.build import FileSource
from ocr.errors import UserError
from ocr.utils.files import make_folder, write_atomic

log = logging.getLogger(__name__)
MAX_REASONS = 4  # lines of the report in a message


@dataclass(frozen=True)
class ConvertSettings:
    """``configs/convert.yaml``."""

    data: dict[str, Any]
    format: str
    output: str


def convert(settings: ConvertSettings) -> dict[str, Path]:
    """Write images and labels; ``data=folder data.root=<output>`` reads them.

    A set with parts gets a folder per part. Images are linked, or copied to another file system; names stay unless two
    are equal.

    Returns:
        The label file or folder of each split.

    Raises:
        UserError: the format cannot be written, the output is not empty, or the set has images that are no files.
    """
    check_formats([settings.format])
    chosen = writable()[settings.format]
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
        sources = [source for source in split.sources if isinstance(source, FileSource)]
        if len(sources) < len(split.sources):
            raise UserError(f"data.{name} has sources that are no files (synthetic, camera): nothing to convert")
        lines = [label_line(*image) for image in labelled_images(sources)]
        for words in drop_what_cannot_be_said(chosen, lines):
            log.warning("%s: %s", name, words)
        names = _place_images([Path(line["image"]) for line in lines], folder / "images")
        written[name] = write_labels(chosen, lines, names, folder, "labels")
        images[name] = (folder / "images").relative_to(output).as_posix()
    for file, text in (chosen.describe(images) if chosen.describe else {}).items():
        write_atomic(output / file, text)
    return written


def _place_images(paths: Sequence[Path], folder: Path) -> list[str]:
    """Links or copies of images in a folder; their names there, none of which share a stem."""
    folder.mkdir(parents=True, exist_ok=True)
    stems: set[str] = set()
    names = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.casefold() in stems:
            number += 1
            stem = f"{path.parent.name}_{path.stem}" if number == 2 else f"{path.parent.name}_{path.stem}_{number}"
        stems.add(stem.casefold())
        target = folder / f"{stem}{path.suffix}"
        try:
            os.link(path.resolve(), target)
        except OSError:  # another file system
            shutil.copyfile(path, target)
        names.append(target.name)
    return names
