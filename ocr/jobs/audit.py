"""Audit of a labelled set before anything is trained on it: what is there, what of it can be used, what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from ocr.audit import label_faults
from ocr.audit.ceiling import Ceiling
from ocr.audit.duplicates import Fingerprint, near_duplicates
from ocr.audit.label_faults import Suspects
from ocr.audit.sections import duplicate_section, lost_section, suspect_sections, witness_section
from ocr.audit.splits import COUNTS, ReadSplit, read_splits
from ocr.audit.statistics import TextFigures, labelled_images
from ocr.data.formats.writers import check_formats, label_line, names_below, writable, write_labels
from ocr.data.index.report import KINDS, NOTES, Report
from ocr.data.sources.build import Source
from ocr.data.transforms.decode import UndecodableImage, decode
from ocr.errors import UserError, printable
from ocr.pipeline import Pipeline
from ocr.types import Truth
from ocr.utils.config import instantiate
from ocr.utils.files import write_atomic

if TYPE_CHECKING:
    from ocr.audit.witness import WitnessReport

MANY_OUTSIDE = 0.2  # of the texts: their coordinates are of another kind or frame
SHRINK = 8  # of images whose hashes and ink are looked at
EXAMPLES = 20  # of each kind in audit.json
UNREAD = "?"  # transcription of text that only the witness has found
TILE = 1536  # network pixels; a longer input is read in tiles


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


@dataclass(frozen=True)
class Images:
    """The images of all splits, in one order.

    Attributes:
        rows: (path, width, height, labels) of each.
        splits: the split of each.
    """

    rows: list[tuple[str, int, int, Truth]]
    splits: list[str]

    def __iter__(self) -> Iterator[tuple[str, int, int, Truth]]:
        return iter(self.rows)

    def truths(self) -> dict[str, Truth]:
        """Labels by path."""
        return {path: truth for path, _, _, truth in self.rows}


def audit(settings: AuditSettings) -> bool:
    """Look a labelled set over, print what was found, write ``audit.json`` and ``audit.html``.

    Returns:
        Whether nothing has to be mended.

    Raises:
        UserError: nothing can be read, or nothing can be learned from it.
    """
    if settings.witness:
        check_formats([settings.witness_format])
        if settings.quick:
            raise UserError("quick=true looks at labels alone: leave it out for witness=true")
    splits = read_splits(settings.data)
    report = Report()
    for split in splits.values():
        report.merge(split.report.to_dict())
    counts = {name: split.counts() for name, split in splits.items()}
    _compare_splits(splits, report)
    total = {key: sum(values[key] for values in counts.values()) for key in COUNTS}
    _check_learnable(total, report)
    pipeline, targets = Pipeline.from_dict(settings.pipeline), instantiate(settings.data["targets"])
    pairs = [(row, name) for name, split in splits.items() for row in labelled_images(split.sources)]
    images = Images([row for row, _ in pairs], [name for _, name in pairs])

    figures = TextFigures.of(images, pipeline.resize, targets.min_text_size)
    suspects = Suspects()
    for path, _, _, truth in images:
        suspects.look_at(path, truth)
    groups, best = None, None
    if not settings.quick:
        groups = _look_at_pixels(images, suspects, report)
        best = Ceiling.of(_progress(images.rows, "ceiling"), pipeline, targets)
    suspects.finish()
    witness_report = _call_witness(settings, [s for split in splits.values() for s in split.sources])

    result: dict[str, Any] = {
        "total": total,
        "splits": counts,
        "problems": {kind: n for kind, n in report.counts.items() if kind in KINDS},
        "notes": {kind: n for kind, n in report.counts.items() if kind in NOTES},
        "suspects": suspects.counts(),
        "examples": report.examples | _suspect_examples(suspects, images.truths()),
        "empty_splits": [name for name, values in counts.items() if not values["images"]],
        "text": figures.summary(targets.min_text_size) | {"ignored_share": total["ignored"] / total["instances"]},
        "ceiling": None if best is None else best.scores | _lost(best, images.truths()),
        "near_duplicates": None if groups is None else [[images.rows[k][0] for k in group] for group in groups],
        "witness": None if witness_report is None else _witness_result(witness_report),
        "sources": {name: split.specs for name, split in splits.items()},
    }
    verdicts = _verdicts(result, pipeline.resize.long_side)
    text = json.dumps(result, indent=1)  # ASCII: a name that is no Unicode can be written, too
    output = Path(settings.output).expanduser() if settings.output else None
    if output is not None:
        write_atomic(output / "audit.json", text + "\n")
        if witness_report is not None:
            _write_relabel_list(witness_report, settings.witness_format, images, output)
    if settings.json:
        print(text)
    else:
        _print_tables(counts | {"total": total}, report)
        print("\n".join(verdicts))
    if output is not None and groups is not None and best is not None:
        page = _page(
            result,
            images,
            groups,
            suspects,
            best,
            witness_report,
            verdicts,
            str(settings.data.get("root") or "the data"),
        )
        print(f"page  {write_atomic(output / 'audit.html', page)}", file=sys.stderr if settings.json else sys.stdout)
    for name in result["empty_splits"]:
        hint = "lower data.val_from, or write id lists train.txt and val.txt"
        print(f"the {name} split has no image: {hint}", file=sys.stderr)
    return not result["problems"] and not result["empty_splits"]


def _check_learnable(total: Mapping[str, int], report: Report) -> None:
    if total["instances"] == total["ignored"]:
        what = f"all {total['instances']} instances are ignored" if total["instances"] else "no labelled text"
        reasons = "; ".join(f"{kind} x {n}, e.g. {report.examples[kind][0]}" for kind, n in report.counts.items())
        words = f"nothing can be learned: {what} in {total['images']} image(s)"
        raise UserError(words + (f" ({reasons})" if reasons else ""))


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


def _progress(rows: Sequence[Any], words: str) -> Any:
    return tqdm(rows, words, unit="image", leave=False, disable=None)


def _look_at_pixels(images: Images, suspects: Suspects, report: Report) -> list[list[int]]:
    """Groups of images that show the same, those across splits first and counted in the report; ink to the suspects."""
    fingerprints, places = [], []
    for k, (path, width, height, truth) in enumerate(_progress(images.rows, "pictures")):
        try:
            picture = decode(Path(path), SHRINK)
        except UndecodableImage as error:
            report.add("unreadable_image", path, str(error).removeprefix(f"{path}: "))
            continue
        fingerprints.append(Fingerprint.of(picture, truth, width, height))
        places.append(k)
        suspects.look_at_ink(path, picture, truth, width, height)
    groups = [[places[k] for k in group] for group in near_duplicates(fingerprints)]
    groups.sort(key=lambda group: -len({images.splits[k] for k in group}))
    for group in groups:
        if len(named := sorted({images.splits[k] for k in group})) > 1:
            names = ", ".join(images.rows[k][0] for k in group[1:])
            report.add("near_duplicate", images.rows[group[0]][0], f"{names} show the same, in {' and '.join(named)}")
    return groups


def _call_witness(settings: AuditSettings, sources: Sequence[Source]) -> WitnessReport | None:
    """What a detector that has not seen the labels says of them; None where it was not asked for."""
    if not settings.witness:
        return None
    import torch

    from ocr.audit.witness import WitnessReport, testify
    from ocr.data.datamodule import worker_count
    from ocr.models.pretrained.ppocr import PACKAGED, weights_file
    from ocr.training.loading import DetectorOverrides, checkpoint_path, load_module
    from ocr.training.process import prepare_process

    prepare_process()
    model = settings.witness_model
    path = weights_file(model) if model in PACKAGED else checkpoint_path(model)
    module = load_module(path, DetectorOverrides(fallback_pipeline=settings.witness_pipeline))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = sum(len(source) for source in sources)
    said = testify(module, sources, device, worker_count("auto"))
    return WitnessReport(list(tqdm(said, "witness", images, unit="image", leave=False, disable=None)))


def _witness_result(witness_report: WitnessReport) -> dict[str, Any]:
    from ocr.audit.witness import in_words

    examples = [in_words(*row) for row in witness_report.ranked()[:EXAMPLES]]
    return {"doubts": witness_report.counts(), "images": len(witness_report.to_relabel()), "examples": examples}


def _write_relabel_list(witness_report: WitnessReport, name: str, images: Images, output: Path) -> None:
    """The images with doubts, the worst first, with their labels and the text that has none, in a label format."""
    from ocr.audit.witness import in_words

    rows = witness_report.to_relabel()
    sizes = {path: (width, height) for path, width, height, _ in images}
    lines = []
    for path, truth, found in rows:
        missing = [doubt.polygon for doubt in found if doubt.label < 0]
        polygons, texts = [*truth.polygons, *missing], [*truth.texts, *([UNREAD] * len(missing))]
        ignore = np.concatenate([truth.ignore, np.zeros(len(missing), bool)])
        lines.append(label_line(path, *sizes[path], Truth(polygons, ignore, texts)))
    names = names_below([path for path, _, _ in rows])
    write_labels(writable()[name], lines, names, output / "relabel", "labels")
    listed = [in_words(path, truth, doubt) for path, truth, found in rows for doubt in found]
    write_atomic(output / "relabel" / "doubts.txt", "\n".join([*map(printable, listed), ""]))


def _suspect_examples(suspects: Suspects, truths: Mapping[str, Truth]) -> dict[str, list[str]]:
    return {
        kind: [_named(path, places, truths) for path, places in found[:EXAMPLES]]
        for kind, found in suspects.found.items()
        if found
    }


def _lost(best: Ceiling, truths: Mapping[str, Truth]) -> dict[str, Any]:
    examples = [_named(path, places, truths) for path, places in best.lost[:EXAMPLES]]
    return {"lost": sum(len(places) for _, places in best.lost), "examples": examples}


def _named(path: str, places: Sequence[int], truths: Mapping[str, Truth]) -> str:
    return f"{path}: {', '.join(repr(truths[path].texts[k]) for k in places)}" if places else path


def _page(
    result: dict[str, Any], images: Images, groups: list[list[int]], suspects: Suspects, best: Ceiling,
    witness_report: WitnessReport | None, verdicts: Sequence[str], title: str,
) -> str:  # fmt: skip
    from ocr.audit.page import render_page

    truths = images.truths()
    sections = [
        duplicate_section([[(images.rows[k][0], images.splits[k]) for k in group] for group in groups]),
        *suspect_sections(suspects, truths),
        lost_section(best, truths),
    ]
    if witness_report is not None:
        sections.insert(0, witness_section(witness_report))
    return render_page(result, [section for section in sections if section.rows], verdicts, title)


def _verdicts(result: Mapping[str, Any], long_side: int) -> list[str]:
    """What matters, a sentence each."""
    text, best, said = result["text"], result["ceiling"], []
    if text["text_height"]:
        heights = ", ".join(f"{float(q):.0%} {value:g}" for q, value in text["text_height"].items())
        said.append(f"text height at network input (long side {long_side}), pixels: {heights}")
    if text["too_small"]:
        needed = text["long_side_needed"]
        more = f"; model.pipeline.resize.long_side={needed} would leave one in a hundred" if needed > long_side else ""
        more += f", and tta.tile={TILE} reads it in parts that fit a small GPU" if needed > max(TILE, long_side) else ""
        said.append(f"{text['too_small']} text(s) are below {text['min_text_size']:g} pixels and never learned{more}")
    if text["ignored_share"]:
        said.append(f"{text['ignored_share']:.1%} of the instances are ignored text")
    said += [f"{kind} x {n}: {label_faults.KINDS[kind]}" for kind, n in result["suspects"].items()]
    if result["near_duplicates"]:
        groups = result["near_duplicates"]
        across = result["problems"].get("near_duplicate", 0)
        said.append(f"{len(groups)} group(s) of images show the same, {across} of them across splits")
    if result["witness"]:
        kinds = ", ".join(f"{kind} x {n}" for kind, n in result["witness"]["doubts"].items()) or "no doubt"
        said.append(f"the witness doubts labels of {result['witness']['images']} image(s): {kinds}")
    if best is not None:
        example = f", e.g. {best['examples'][0]}" if best["examples"] else ""
        said.append(
            f"a faultless network would have hmean {best['hmean']:.4f} here: {best['lost']} text(s) lost{example}"
        )
    return said


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
