"""CVAT for images, XML: ``<image name width height>`` with ``<polygon>``, ``<box rotation>``, ``<mask>``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from ocr.data.formats.files import is_flagged, is_ignored, read_text
from ocr.data.formats.manifest import Entry, Row, labelled, stated_size
from ocr.data.formats.run_lengths import run_length_outlines
from ocr.data.formats.shapes import NO_NUMBERS, ellipse, rotated_box
from ocr.data.index.report import Report
from ocr.errors import UserError

SUFFIXES = (".xml",)
FILE = "cvat.xml"
HAS_CATEGORIES = True
HEAD_CHARACTERS = 4096  # of a file that are looked at
SHAPES = ("polygon", "box", "mask", "polyline", "points", "ellipse", "cuboid", "skeleton")


def matches(path: Path, content: Any) -> bool:
    """Whether the file begins with CVAT's root element."""
    return "<annotations" in str(content)[:HEAD_CHARACTERS]


def rows(labels: Path, report: Report) -> Iterator[Row]:
    """Rows of an export.

    The text stands in an attribute called ``text`` or ``transcription``; the label ``ignore`` and an attribute
    ``ignore`` or ``difficult`` of ``true`` mark text to ignore.
    """
    text = read_text(labels)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities may expand without end
        raise UserError(f"{labels}: a document type or entities in it: CVAT writes none, and it is not read")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  (no entities, see above)
    except ElementTree.ParseError as error:
        raise UserError(f"{labels}:{error.position[0]}: not valid XML: {error}") from error
    if root.find("track") is not None and root.find("image") is None:
        raise UserError(f"{labels} is CVAT for video: export the task as 'CVAT for images 1.1'")
    for number, image in enumerate(root.iter("image"), start=1):
        name, size = image.get("name"), stated_size(image.attrib, "width", "height")
        if not name:
            report.add("unparsable_line", labels, "an image without a name", number)
            continue
        entries = [entry for shape in image if shape.tag in SHAPES for entry in _entries(shape, name, size)]
        yield Row(name, entries, number, size)


def _entries(shape: Any, name: str, size: tuple[int, int] | None) -> list[Entry]:
    category = str(shape.get("label") or "")
    outlines = _outlines(shape, size)
    if not outlines:
        return [Entry(category=category, fault=f"{name}: a {shape.tag} that encloses no text")]
    attributes = {str(a.get("name")).lower(): a.text or "" for a in shape.iter("attribute")}
    text = attributes.get("text") or attributes.get("transcription") or ""
    ignore = is_flagged(attributes) or is_ignored(text) or category.lower() == "ignore"
    return [Entry(outline, text, ignore, category=category) for outline in outlines]


def _outlines(shape: Any, size: tuple[int, int] | None) -> list[Any]:
    """Outlines, (N, 2) each; none of a shape that encloses nothing or cannot be read."""
    try:
        if shape.tag == "polygon":
            return [[[float(v) for v in point.split(",")] for point in shape.get("points").strip("; ").split(";")]]
        if shape.tag == "box":
            x0, y0, x1, y1 = (float(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
            degrees = float(shape.get("rotation") or 0)
            return [rotated_box(x0, y0, x1 - x0, y1 - y0, degrees, ((x0 + x1) / 2, (y0 + y1) / 2))]
        if shape.tag == "ellipse":
            cx, cy, rx, ry = (float(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
            return [ellipse(cx, cy, rx, ry, float(shape.get("rotation") or 0))]
        if shape.tag == "mask":
            left, top, width, height = (int(float(shape.get(key))) for key in ("left", "top", "width", "height"))
            runs = [int(run) for run in shape.get("rle").split(",")]  # along the rows: as if turned for COCO's columns
            outlines = run_length_outlines({"size": [width, height], "counts": runs})
            return [outline[:, ::-1] + (left, top) for outline in outlines]
    except (AttributeError, *NO_NUMBERS):
        pass
    return []


def write(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """CVAT for images 1.1, to be uploaded to a task with the same images."""
    rows = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "<version>1.1</version>"]
    for k, (line, name) in enumerate(zip(lines, names)):
        named = quoteattr("".join(c if c.isprintable() else "\ufffd" for c in name))  # XML has no control characters
        rows.append(f'<image id="{k}" name={named} width="{line["width"]}" height="{line["height"]}">')
        for polygon, text, skip in labelled(line):
            points = ";".join(f"{x!r},{y!r}" for x, y in np.asarray(polygon, np.float64).tolist())
            shown = "".join(c for c in ("###" if skip else text) if c.isprintable())
            attribute = f'<attribute name="text">{escape(shown)}</attribute>' if shown else ""
            rows.append(f'<polygon label="text" source="manual" occluded="0" points="{points}">{attribute}</polygon>')
        rows.append("</image>")
    return "\n".join([*rows, "</annotations>", ""])
