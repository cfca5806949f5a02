"""The sections of an audit's page that have pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ocr.audit import label_faults
from ocr.audit.ceiling import Ceiling
from ocr.audit.findings import MAX_PER_IMAGE, Findings
from ocr.audit.label_faults import Suspects
from ocr.audit.page import PageImage, Section, draw_image
from ocr.audit.splits import LabelledImage

if TYPE_CHECKING:
    from ocr.audit.witness import WitnessReport

GROUPS, PER_GROUP = 12, 4
MAX_PICTURES = 9  # of a section
MAX_WITNESS_PICTURES = 20


def sections(findings: Findings) -> list[Section]:
    """Make the sections that have pictures, the most telling first."""
    images = findings.images
    groups = [[images[k] for k in group] for group in findings.groups or ()]
    result = [duplicate_section(groups), *suspect_sections(findings.suspects, images)]
    if findings.witness is not None:
        result.insert(0, witness_section(findings.witness))
    if findings.ceiling is not None:
        result.append(lost_section(findings.ceiling, images))
    return [section for section in result if section.rows]


def duplicate_section(groups: Sequence[Sequence[LabelledImage]]) -> Section:
    """Groups of images that show the same."""
    across = sum(len({image.split for image in group}) > 1 for group in groups)
    section = Section(
        "Near-duplicates",
        f"{len(groups)} group(s) of images show the same receipt or scene, {across} of them in several splits, where "
        f"what is trained on is no test: keep a group on one side by id lists.{_shown(len(groups), GROUPS, 'groups')}",
    )
    for group in groups[:GROUPS]:
        shown = (draw_image(image.path, f"{image.split}: {Path(image.path).name}") for image in group[:PER_GROUP])
        section.rows.append(_readable(shown))
    return section


def suspect_sections(suspects: Suspects, images: Sequence[LabelledImage]) -> list[Section]:
    """A section for each kind of label that looks wrong."""
    counts = suspects.counts()
    sections = []
    for kind, rows in suspects.by_kind.items():
        if rows:
            words = f"{counts[kind]}: {label_faults.KINDS[kind]}.{_shown(len(rows), MAX_PICTURES, 'images')} "
            words += "In orange what is meant, in blue the other labels."
            sections.append(Section(kind.replace("_", " ").capitalize(), words, [_pictures(rows, images)]))
    return sections


def lost_section(ceiling: Ceiling, images: Sequence[LabelledImage]) -> Section:
    """Texts that targets and post-processing lose whatever the network does."""
    count = sum(len(indices) for _, indices in ceiling.lost)
    words = (
        f"A network without a fault would have hmean {ceiling.scores['hmean']:.4f} with this recipe: {count} text(s) "
        "are too small for it, or merge with their neighbours."
    )
    return Section("The ceiling", words, [_pictures(ceiling.lost, images)] if ceiling.lost else [])


def witness_section(report: WitnessReport) -> Section:
    """The strongest doubts of the witness."""
    ranked = report.ranked(MAX_PER_IMAGE)
    kinds = ", ".join(f"{kind} x {count}" for kind, count in report.counts().items()) or "none"
    words = (
        f"A detector that never saw the labels finds other text in {len(report.to_relabel())} image(s): {kinds}. The "
        f"strongest doubts, at most {MAX_PER_IMAGE} of an image, in orange; labels in blue. relabel/ has all of them."
    )
    pictures = (
        draw_image(said.image, f"{Path(said.image).name}: {doubt.kind.replace('_', ' ')}, {doubt.score:.2f}",
                   said.truth.polygons, [doubt.polygon])
        for said, doubt in ranked[:MAX_WITNESS_PICTURES]
    )  # fmt: skip
    return Section("The witness", words, [_readable(pictures)] if ranked else [])


def _shown(count: int, limit: int, what: str) -> str:
    return f" The first {limit} of {count} {what}." if count > limit else ""


def _pictures(rows: Sequence[tuple[int, list[int]]], images: Sequence[LabelledImage]) -> list[PageImage]:
    return _readable(_picture(images[k], texts) for k, texts in rows[:MAX_PICTURES])


def _picture(image: LabelledImage, texts: Sequence[int]) -> PageImage | None:
    name, labels = Path(image.path).name, image.truth.polygons
    if not texts:
        return draw_image(image.path, name, labels)
    first = texts[0]  # a crop around all of them would be most of the image
    more = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
    return draw_image(image.path, f"{name}: {image.truth.texts[first]!r}{more}", labels, [labels[first]])


def _readable(pictures: Iterable[PageImage | None]) -> list[PageImage]:
    return [picture for picture in pictures if picture is not None]
