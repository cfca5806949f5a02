"""Findings of an audit: plain values for ``audit.json`` and sentences for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ocr.audit import label_faults
from ocr.audit.ceiling import Ceiling
from ocr.audit.label_faults import Suspects
from ocr.audit.splits import COUNTS, LabelledImage, ReadSplit
from ocr.audit.statistics import TextFigures
from ocr.data.index.report import KINDS, NOTES, Report
from ocr.errors import printable

if TYPE_CHECKING:  # it imports torch
    from ocr.audit.witness import WitnessReport

MAX_EXAMPLES = 20  # of each kind in audit.json
MAX_PER_IMAGE = 3  # doubts of one image among the examples
TILE_PIXELS = 1536  # network pixels; a longer input is read in tiles


@dataclass(frozen=True)
class Findings:
    """All that an audit has found.

    Attributes:
        splits: as they were read.
        report: problems and notes of all splits, and of their comparison.
        images: of all splits that are files; others refer to them by index.
        figures: of their text.
        min_text_size: network pixels below which a text is not learned.
        long_side: of the network's input, pixels.
        suspects: labels that look wrong.
        groups: near-duplicates; None where pixels were not looked at.
        ceiling: None for the same reason.
        witness: None where none was asked.
    """

    splits: Mapping[str, ReadSplit]
    report: Report
    images: Sequence[LabelledImage]
    figures: TextFigures
    min_text_size: float
    long_side: int
    suspects: Suspects
    groups: list[list[int]] | None = None
    ceiling: Ceiling | None = None
    witness: WitnessReport | None = None

    @cached_property
    def result(self) -> dict[str, Any]:
        """Plain values, see ``docs/audit.md``."""
        counts = {name: split.counts() for name, split in self.splits.items()}
        total = {key: sum(values[key] for values in counts.values()) for key in COUNTS}
        text = self.figures.summary(self.min_text_size)
        return {
            "total": total,
            "splits": counts,
            "problems": {kind: n for kind, n in self.report.counts.items() if kind in KINDS},
            "notes": {kind: n for kind, n in self.report.counts.items() if kind in NOTES},
            "suspects": self.suspects.counts(),
            "examples": self.report.examples | self._suspect_examples(),
            "empty_splits": [name for name, values in counts.items() if not values["images"]],
            "text": text | {"ignored_share": total["ignored"] / max(total["instances"], 1)},
            "ceiling": None if self.ceiling is None else self._ceiling(self.ceiling),
            "near_duplicates": self.groups and [[self.images[k].path for k in group] for group in self.groups],
            "witness": self._witness(),
            "sources": {name: split.specs for name, split in self.splits.items()},
        }

    def _suspect_examples(self) -> dict[str, list[str]]:
        first = {kind: rows[:MAX_EXAMPLES] for kind, rows in self.suspects.by_kind.items() if rows}
        return {kind: [self.images[k].named(texts) for k, texts in rows] for kind, rows in first.items()}

    def _ceiling(self, ceiling: Ceiling) -> dict[str, Any]:
        examples = [self.images[k].named(texts) for k, texts in ceiling.lost[:MAX_EXAMPLES]]
        return ceiling.scores | {"lost": sum(len(indices) for _, indices in ceiling.lost), "examples": examples}

    def _witness(self) -> dict[str, Any] | None:
        if self.witness is None:
            return None
        from ocr.audit.witness import in_words

        examples = [in_words(*row) for row in self.witness.ranked(MAX_PER_IMAGE)[:MAX_EXAMPLES]]
        return {"doubts": self.witness.counts(), "images": len(self.witness.to_relabel()),
                "not_judged": self.witness.not_judged(), "examples": examples}  # fmt: skip

    def verdicts(self) -> list[str]:
        """Main findings, one sentence each."""
        result, sentences = self.result, []
        text = result["text"]
        if text["text_height"]:
            heights = ", ".join(f"{float(q):.0%} {value:g}" for q, value in text["text_height"].items())
            sentences.append(f"text height at network input (long side {self.long_side}), pixels: {heights}")
        if text["too_small"]:
            sentences.append(
                f"{text['too_small']} text(s) are below {text['min_text_size']:g} pixels and never learned"
                + self._remedy(text["long_side_needed"])
            )
        if text["ignored_share"]:
            sentences.append(f"{text['ignored_share']:.1%} of the instances are ignored text")
        sentences += [f"{kind} x {n}: {label_faults.KINDS[kind]}" for kind, n in result["suspects"].items()]
        if self.groups:
            across = result["problems"].get("near_duplicate", 0)
            sentences.append(f"{len(self.groups)} group(s) of images show the same, {across} of them across splits")
        if self.witness is not None:
            kinds = ", ".join(f"{kind} x {n}" for kind, n in self.witness.counts().items()) or "no doubt"
            sentences.append(f"the witness doubts labels of {result['witness']['images']} image(s): {kinds}")
            if not_judged := self.witness.not_judged():
                sentences.append(f"the witness is no judge of {not_judged} text(s): they are too small for it")
        if self.ceiling is not None:
            best = result["ceiling"]
            example = f", e.g. {best['examples'][0]}" if best["examples"] else ""
            lost = f"{best['lost']} text(s) lost{example}"
            sentences.append(f"a faultless network would have hmean {best['hmean']:.4f} here: {lost}")
        return [printable(sentence) for sentence in sentences]

    def _remedy(self, needed: int) -> str:
        """The input size at which small text would be learned, and how it is read on a small machine."""
        if needed <= self.long_side:
            return ""
        tiles = f", and tta.tile={TILE_PIXELS} reads it in parts that fit a small GPU" if needed > TILE_PIXELS else ""
        return f"; model.pipeline.resize.long_side={needed} would leave one in a hundred{tiles}"
