"""Audit of a labelled set before training: what it has, what of that can be used, what is wrong."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from ocr.audit.ceiling import Ceiling
from ocr.audit.duplicates import Fingerprint, near_duplicates
from ocr.audit.findings import Findings
from ocr.audit.label_faults import Suspects
from ocr.audit.splits import COUNTS, LabelledImage, ReadSplit, labelled_images, read_splits
from ocr.audit.statistics import TextFigures, check_any_large_enough
from ocr.data.formats.writers import (
    check_formats,
    drop_what_cannot_be_said,
    label_line,
    names_below,
    writable,
    write_labels,
)
from ocr.data.index.report import Report
from ocr.data.sources.build import Source
from ocr.data.sources.files import FileSource
from ocr.data.sources.shards import ShardSource
from ocr.data.transforms.decode import DECODE_FLAGS, UndecodableImage, decode
from ocr.errors import UserError, printable
from ocr.pipeline import Pipeline
from ocr.types import Truth
from ocr.utils.config import instantiate
from ocr.utils.files import make_folder, write_atomic

if TYPE_CHECKING:  # it imports torch
    from ocr.audit.witness import WitnessReport

log = logging.getLogger(__name__)
MAX_OUTSIDE = 0.2  # of the texts: their coordinates are of another kind or frame
MIN_INSPECTED_SIDE = 320  # pixels of the longer side of an image that hash and ink are taken from
RELABEL = "relabel"  # folder of the list to re-label
UNREAD = "?"  # transcription of text that only the witness has found


@dataclass(frozen=True)
class AuditSettings:
    """``configs/audit.yaml``."""

    data: dict[str, Any]
    pipeline: dict[str, Any]
    output: str | None
    json: bool
    quick: bool
    witness: bool
    witness_model: str
    witness_format: str
    witness_pipeline: dict[str, Any]


def audit(settings: AuditSettings) -> bool:
    """Look a labelled set over, print what was found, write the results; whether nothing has to be mended.

    Raises:
        UserError: nothing can be read, or nothing can be learned from it.
    """
    if settings.witness:
        check_formats([settings.witness_format])
        if settings.quick:
            raise UserError("quick=true looks at labels alone: leave it out for witness=true")
    splits = read_splits(settings.data)
    if any(isinstance(source, ShardSource) for split in splits.values() for source in split.sources):
        raise UserError(
            "an audit looks at files: audit the set that the shards were made of, or write it again as files "
            "(runners/convert.py format=icdar)"
        )
    report = _compare_splits(splits)
    _check_learnable(splits, report)
    images = [image for name, split in splits.items() for image in labelled_images(split.sources, name)]
    output = _output_folder(settings, images)
    findings = _inspect(settings, splits, images, report)
    result = findings.result
    if settings.json:
        print(json.dumps(result, indent=1))
    else:
        _print_tables(result["splits"] | {"total": result["total"]}, report)
        print("\n".join(findings.verdicts()))
    if output is not None:
        file = _write(findings, output, settings)
        print(f"results  {file}", file=sys.stderr if settings.json else sys.stdout)
    for name in result["empty_splits"]:
        by_hash = any(spec.get("hash_range") for spec in splits[name].specs)
        hint = f"{'raise' if name == 'train' else 'lower'} data.val_from, or write id lists train.txt and val.txt"
        print(f"the {name} split has no image: {hint if by_hash else 'see its sources above'}", file=sys.stderr)
    return not result["problems"] and not result["empty_splits"]


def _compare_splits(splits: Mapping[str, ReadSplit]) -> Report:
    """Join the reports of all splits; add images that two splits share; warn of many labels outside images."""
    report = Report()
    seen: dict[int, str] = {}
    for name, split in splits.items():
        report.merge(split.report.to_dict())
        for source in split.sources:
            for k, identity in enumerate(source.identities().tolist()):
                if (other := seen.setdefault(identity, name)) != name:
                    report.add("in_two_splits", source.name(k), f"in {other} and {name}")
    instances = sum(split.counts()["instances"] for split in splits.values())
    outside = report.counts["partly_outside"]
    if outside > MAX_OUTSIDE * instances:
        report.add("many_partly_outside", "all splits", f"{outside} of {instances} texts reach outside their images")
    return report


def _check_learnable(splits: Mapping[str, ReadSplit], report: Report) -> None:
    """Raise UserError where neither all splits together nor the training split have text that counts."""
    train = [split for name, split in splits.items() if name == "train"]
    for name, parts in (("", [*splits.values()]), (" in the train split", train)):
        images, instances, ignored = (sum(split.counts()[key] for split in parts) for key in COUNTS)
        if instances == ignored and (images or not name):
            what = f"all {instances} instances are ignored" if instances else "no labelled text"
            reasons = "; ".join(f"{kind} x {n}, e.g. {report.examples[kind][0]}" for kind, n in report.counts.items())
            words = f"nothing can be learned: {what} in {images} image(s){name}"
            raise UserError(words + (f" ({reasons})" if reasons else ""))


def _output_folder(settings: AuditSettings, images: Sequence[LabelledImage]) -> Path | None:
    """The folder to write to, made before the work begins.

    Raises:
        UserError: it cannot be written to, or the list to re-label cannot.
    """
    if settings.output is None:
        return None
    output = make_folder(Path(settings.output).expanduser(), "output")
    if settings.witness:
        if (output / RELABEL).exists():
            raise UserError(f"{output / RELABEL} is there already, perhaps with your corrections: name another output")
        stems = Counter(str(Path(image.path).with_suffix("")) for image in images)
        twins = [stem for stem, count in stems.items() if count > 1]
        if writable()[settings.witness_format].per_image and twins:
            raise UserError(
                f"witness_format={settings.witness_format} has a label file per stem, which several images share, e.g. "
                f"{twins[0]}.*: take one with a file for all, such as label_studio"
            )
    return output


def _inspect(
    settings: AuditSettings, splits: Mapping[str, ReadSplit], images: Sequence[LabelledImage], report: Report
) -> Findings:
    pipeline, targets = Pipeline.from_dict(settings.pipeline), instantiate(settings.data["targets"])
    by_split = {
        name: TextFigures.of([i for i in images if i.split == name], pipeline.resize, targets.min_text_size)
        for name in splits
    }
    figures = TextFigures.join([*by_split.values()])
    check_any_large_enough(by_split.get("train", figures), pipeline.resize, targets.min_text_size)
    suspects = Suspects.of(images)
    groups, ceiling, witness = None, None, None
    if not settings.quick:
        groups = _inspect_pixels(images, suspects, report)
        if images:  # drawn ones are none
            ceiling = Ceiling.of(_progress(images, "ceiling"), pipeline, targets)
    if settings.witness:
        sources = [source for split in splits.values() for source in split.sources if isinstance(source, FileSource)]
        witness = _call_witness(settings, sources)
    suspects.finish()
    return Findings(splits, report, images, figures, targets.min_text_size, pipeline.resize.long_side, suspects, groups,
                    ceiling, witness)  # fmt: skip


def _inspect_pixels(images: Sequence[LabelledImage], suspects: Suspects, report: Report) -> list[list[int]]:
    """Group images that show the same, those across splits first; inspect the ink of all labels for the suspects."""
    fingerprints, indices = [], []
    for k, image in enumerate(_progress(images, "pictures")):
        try:
            side = max(image.width, image.height)
            shrink = max(factor for factor in DECODE_FLAGS if factor == 1 or side >= factor * MIN_INSPECTED_SIDE)
            pixels = decode(Path(image.path), shrink)
        except UndecodableImage as error:
            report.add("unreadable_image", image.path, str(error).removeprefix(f"{image.path}: "))
            continue
        fingerprints.append(Fingerprint.of(pixels, image.truth, image.width, image.height))
        indices.append(k)
        suspects.inspect_ink(k, pixels, image)
    groups = [[indices[k] for k in group] for group in near_duplicates(fingerprints)]
    groups.sort(key=lambda group: -len({images[k].split for k in group}))
    for group in groups:
        same = [images[k] for k in group]
        splits = sorted({image.split for image in same})
        if len(splits) > 1 and len({image.path for image in same}) > 1:  # one alone is counted as in_two_splits
            names = ", ".join(image.path for image in same[1:])
            report.add("near_duplicate", same[0].path, f"{names} show the same, in {' and '.join(splits)}")
    return groups


def _call_witness(settings: AuditSettings, sources: Sequence[Source]) -> WitnessReport:
    """Run a detector that has not seen the labels and collect its doubts."""
    import torch

    from ocr.audit.witness import WitnessReport, ask_witness
    from ocr.data.loader_workers import worker_count
    from ocr.models.pretrained.ppocr import PACKAGED, weights_file
    from ocr.training.loading import DetectorOverrides, checkpoint_path, load_module
    from ocr.training.process import prepare_process

    prepare_process()
    model = settings.witness_model
    path = weights_file(model) if model in PACKAGED else checkpoint_path(model)
    module = load_module(path, DetectorOverrides(fallback_pipeline=settings.witness_pipeline))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    total = sum(len(source) for source in sources)
    return WitnessReport([*_progress(ask_witness(module, sources, device, worker_count("auto")), "witness", total)])


def _progress(rows: Any, words: str, total: int | None = None) -> Any:
    return tqdm(rows, words, total, unit="image", leave=False, disable=None)


def _write(findings: Findings, output: Path, settings: AuditSettings) -> Path:
    """``audit.json``, the page where pixels were looked at, the list to re-label; the main file of these."""
    file = write_atomic(output / "audit.json", json.dumps(findings.result, indent=1) + "\n")  # ASCII: any name fits
    if findings.witness is not None:
        _write_relabel_list(findings.witness, settings.witness_format, output / RELABEL)
    if findings.groups is not None:
        from ocr.audit.page import render_page
        from ocr.audit.sections import sections

        title = str(settings.data.get("root") or "the data")
        page = render_page(findings.result, sections(findings), findings.verdicts(), title)
        return write_atomic(output / "audit.html", page.encode("utf-8", "backslashreplace"))
    (output / "audit.html").unlink(missing_ok=True)  # of an earlier audit
    return file


def _write_relabel_list(witness: WitnessReport, name: str, folder: Path) -> None:
    """Write the images with doubts, the worst first: their labels, and unlabelled text, in a label format."""
    from ocr.audit.witness import in_words

    statements = witness.to_relabel()
    lines = []
    for said in statements:
        truth, missing = said.truth, [doubt.polygon for doubt in said.doubts if doubt.label < 0]
        ignore = np.concatenate([truth.ignore, np.zeros(len(missing), bool)])
        with_missing = Truth([*truth.polygons, *missing], ignore, [*truth.texts, *([UNREAD] * len(missing))])
        lines.append(label_line(said.image, *said.size, with_missing))
    for words in drop_what_cannot_be_said(writable()[name], lines):
        log.warning("%s: %s", folder, words)
    write_labels(writable()[name], lines, names_below([said.image for said in statements]), folder, "labels")
    listed = [printable(in_words(said, doubt)) for said in statements for doubt in said.doubts]
    write_atomic(folder / "doubts.txt", "".join(f"{line}\n" for line in listed))


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
