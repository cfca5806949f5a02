"""Report on the faults of a data set, counted by kind, each with file and line."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ocr.errors import UserError, printable

log = logging.getLogger(__name__)

KINDS = {
    "unreadable_image": "image skipped",
    "truncated_image": "image skipped",
    "label_without_image": "label skipped",
    "image_without_label": "image skipped",
    "unparsable_line": "line skipped",
    "too_few_points": "instance skipped",
    "not_finite": "instance skipped",
    "zero_area": "instance skipped",
    "outside_image": "instance skipped",
    "self_crossing": "quads untangled, other polygons kept as ignored regions",
    "no_sound_label": "image skipped: its label file has entries, none of them sound",
    "many_unsound_labels": "image skipped: its text would be taught as background",
    "ambiguous": "label skipped: it may belong to several images",
    "repeated": "equal boxes are kept once",
    "in_two_splits": "what is trained on is no test",
    "near_duplicate": "what is trained on is no test: keep them in one split by id lists",
    "many_partly_outside": "coordinates of another kind or frame?",
    "size_mismatch": "image skipped: the label file states another size",
}
NOTES = {
    "partly_outside": "clipped to the image",
    "scaled_labels": "brought to the image's size",
    "turned_labels": "turned as EXIF says",
    "difficult": "marked as difficult: ignored text",
    "several_annotations": "one of which counts: the accepted one, else the newest with regions",
    "unlisted_image": "not in this label file, which is not the only one of its image folder",
    "several_categories": "all taken as text",
    "ignored_column": "a script, language or difficulty before the text is not part of it",
    "not_utf8": "odd characters of its texts are replaced",
    "further_pages": "of several pages or frames, the first of which alone is read",
    "nearly_black": "nearly black, as scans of 16 bits are that use only the lower ones: stretch their values",
    "illegible": "so long that print becomes illegible at network size: add resize.max_aspect=4",
}
EXAMPLES_KEPT = 5


class Report:
    """Collects problems while a data set is read.

    Args:
        strict: raise at the first problem instead of counting it.

    Attributes:
        counted_as: kinds that are counted as another one, by their names.
    """

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.counted_as: Mapping[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, where: object, detail: str = "", line: int = 0) -> None:
        """Count one problem.

        Args:
            kind: a key of ``KINDS`` or ``NOTES``.
            where: the file.
            detail: what is wrong in it.
            line: line or entry number in the file, 0 for the file as a whole.

        Raises:
            UserError: in strict mode, for every kind in ``KINDS``.
        """
        kind = self.counted_as.get(kind, kind)
        location = f"{where}:{line}" if line else str(where)
        message = printable(f"{location}: {detail}" if detail else location)
        if self.strict and kind in KINDS:
            raise UserError(f"{message} ({kind}; data.strict=true stops at the first problem)")
        self.counts[kind] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES_KEPT:
            kept.append(message)

    @property
    def problems(self) -> int:
        """Number of problems, notes left out."""
        return sum(count for kind, count in self.counts.items() if kind in KINDS)

    def lines(self) -> list[str]:
        """The report as text, one heading per kind with its first examples."""
        out = []
        for kind, count in self.counts.most_common():
            out.append(f"{kind} x {count} ({(KINDS | NOTES)[kind]})")
            out += [f"    {example}" for example in self.examples[kind]]
            if count > EXAMPLES_KEPT:
                out.append(f"    ... and {count - EXAMPLES_KEPT} more")
        return out

    def merge(self, other: dict[str, Any]) -> None:
        """Add what another report's :meth:`to_dict` holds."""
        self.counts.update(other["counts"])
        for kind, examples in other["examples"].items():
            kept = self.examples.setdefault(kind, [])
            kept.extend(examples[: EXAMPLES_KEPT - len(kept)])

    def to_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "examples": self.examples}

    def log(self, name: str) -> None:
        """Write the report to the log, as a warning when there are problems."""
        if self.counts:
            level = logging.WARNING if self.problems else logging.INFO
            log.log(level, "%s: %d problem(s) in the data\n  %s", name, self.problems, "\n  ".join(self.lines()))
