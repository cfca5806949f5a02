"""The sections of an audit's page that have pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ocr.audit import label_faults
from ocr.audit.ceiling import Ceiling
from ocr.audit.findings import Findings
from ocr.audit.label_faults import Suspects
from ocr.audit.page import Picture, Section, crop, thumbnail
from ocr.types import Truth

if TYPE_CHECKING:
    from ocr.audit.witness import WitnessReport

GROUPS, PER_GROUP = 12, 4
PICTURES = 9  # of a section
WITNESS_PICTURES = 20


def sections(findings: Findings) -> list[Section]:
    """Those that have pictures, the most telling first."""
    truths, rows = findings.images.truths(), findings.images.rows
    groups = [[(rows[k][0], findings.images.splits[k]) for k in group] for group in findings.groups or ()]
    found = [duplicate_section(groups), *suspect_sections(findings.suspects, truths)]
    if findings.witness is not None:
        found.insert(0, witness_section(findings.witness))
    if findings.ceiling is not None:
        found.append(lost_section(findings.ceiling, truths))
    return [section for section in found if section.rows]


def duplicate_section(groups: Sequence[Sequence[tuple[str, str]]]) -> Section:
    """Groups of images that show the same, each a list of (path, split)."""
    across = sum(len({split for _, split in group}) > 1 for group in groups)
    section = Section(
        "Near-duplicates",
        f"{len(groups)} group(s) of images show the same receipt or scene, {across} of them in several splits, where "
        "what is trained on is no test: keep a group on one side by id lists.",
    )
    for group in groups[:GROUPS]:
        section.rows.append(_there(thumbnail(path, f"{split}: {Path(path).name}") for path, split in group[:PER_GROUP]))
    return section


def suspect_sections(suspects: Suspects, truths: Mapping[str, Truth]) -> list[Section]:
    """A section for each kind of label that looks wrong."""
    counts = suspects.counts()
    sections = []
    for kind, found in suspects.found.items():
        if found:
            words = f"{counts[kind]}: {label_faults.KINDS[kind]}. In orange what is meant, in blue the other labels."
            sections.append(Section(kind.replace("_", " ").capitalize(), words, [_pictures(found, truths)]))
    return sections


def lost_section(ceiling: Ceiling, truths: Mapping[str, Truth]) -> Section:
    """Texts that targets and post-processing lose whatever the network does."""
    count = sum(len(places) for _, places in ceiling.lost)
    words = (
        f"A network without a fault would have hmean {ceiling.scores['hmean']:.4f} with this recipe: {count} text(s) "
        "are too small for it, or merge with their neighbours."
    )
    return Section("The ceiling", words, [_pictures(ceiling.lost, truths)] if ceiling.lost else [])


def witness_section(report: WitnessReport) -> Section:
    """The strongest doubts of the witness."""
    ranked = report.ranked()
    kinds = ", ".join(f"{kind} x {count}" for kind, count in report.counts().items()) or "none"
    words = (
        f"A detector that never saw the labels finds other text in {len(report.to_relabel())} image(s): {kinds}. "
        "The strongest doubts, in orange; labels in blue. All are in relabel/, the worst images first."
    )
    pictures = (
        crop(
            name,
            f"{Path(name).name}: {doubt.kind.replace('_', ' ')}, {doubt.score:.2f}",
            [doubt.polygon],
            truth.polygons,
        )
        for name, truth, doubt in ranked[:WITNESS_PICTURES]
    )
    return Section("The witness", words, [_there(pictures)] if ranked else [])


def _pictures(found: Sequence[tuple[str, list[int]]], truths: Mapping[str, Truth]) -> list[Picture]:
    return _there(_picture(path, places, truths[path]) for path, places in found[:PICTURES])


def _picture(path: str, places: Sequence[int], truth: Truth) -> Picture | None:
    if not places:
        return thumbnail(path, Path(path).name, truth.polygons)
    k = places[0]  # a crop around all of them would be most of the image
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    caption = f"{Path(path).name}: {truth.texts[k]!r}{more}"
    return crop(path, caption, [truth.polygons[k]], truth.polygons)


def _there(pictures: Iterable[Picture | None]) -> list[Picture]:
    return [picture for picture in pictures if picture is not None]
