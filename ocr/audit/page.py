"""An audit as one HTML page that needs nothing beside it: pictures and styles are in the file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader

from ocr.data.transforms.decode import UndecodableImage, decode
from ocr.drawing.polygons import FOUND, MISSED, draw_polygons

THUMBNAIL_PIXELS = 320  # of the longer side
CROP_PIXELS = 480
MARGIN_HEIGHTS = 1.5  # of a text, that a crop shows around it
MIN_MARGIN_PIXELS = 24
JPEG_QUALITY = 80


@dataclass(frozen=True)
class PageImage:
    """Image of the page with its caption.

    Attributes:
        source: data URI of a JPEG.
        caption: below it.
    """

    source: str
    caption: str


@dataclass
class Section:
    """A part of the page: a headline, a line on what it shows, rows of pictures.

    Attributes:
        title: of the section.
        words: what it shows.
        rows: pictures; those of one group in one row.
    """

    title: str
    words: str
    rows: list[list[PageImage]] = field(default_factory=list)


def thumbnail(path: str | Path, caption: str, polygons: Sequence[np.ndarray] = ()) -> PageImage | None:
    """A whole image, small, with the outlines of its labels; None where it cannot be read."""
    try:
        image = decode(Path(path), 1)
    except UndecodableImage:
        return None
    scale = min(1.0, THUMBNAIL_PIXELS / max(image.shape[:2]))
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    image = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    draw_polygons(image, [p * scale for p in polygons], FOUND)
    return PageImage(_uri(image), caption)


def crop(
    path: str | Path, caption: str, polygons: Sequence[np.ndarray], others: Sequence[np.ndarray] = ()
) -> PageImage | None:
    """Crop an image around some polygons (drawn orange, others blue); None where it cannot be read."""
    try:
        image = decode(Path(path), 1)
    except UndecodableImage:
        return None
    points = np.concatenate(list(polygons))
    low, high = points.min(axis=0), points.max(axis=0)
    margin = max(MIN_MARGIN_PIXELS, MARGIN_HEIGHTS * float(min(high - low)))
    x0, y0 = np.maximum(np.floor(low - margin), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(high + margin), image.shape[1::-1]).astype(int).tolist()
    part = image[y0:y1, x0:x1]
    scale = min(3.0, CROP_PIXELS / max(part.shape[:2]))
    size = [max(1, round(side * scale)) for side in part.shape[1::-1]]
    part = np.ascontiguousarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC))
    for outlines, colour, width in ((others, FOUND, 1), (polygons, MISSED, 2)):
        draw_polygons(part, [(p - (x0, y0)) * scale for p in outlines], colour, width)
    return PageImage(_uri(part), caption)


def _uri(image: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def render_page(result: dict[str, Any], sections: Sequence[Section], verdicts: Sequence[str], title: str) -> str:
    """The page.

    Args:
        result: what ``audit.json`` has.
        sections: with pictures.
        verdicts: the most important findings, a sentence each.
        title: of the page.
    """
    environment = Environment(loader=PackageLoader("ocr.audit", "."), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html").render(
        result=result, sections=sections, verdicts=verdicts, title=title, histograms=_histograms(result["text"])
    )


def _histograms(text: dict[str, Any]) -> list[dict[str, Any]]:
    """Bars of each histogram: label, count, height in per cent of the tallest."""
    titles = {
        "text_height_histogram": "text height at network input, pixels",
        "aspect_histogram": "length / height",
        "angle_histogram": "angle, degrees",
        "texts_per_image_histogram": "texts per image",
    }
    charts = []
    for key, title in titles.items():
        counts = text[key]
        top = max(counts.values(), default=0) or 1
        bars = [{"label": f"{float(label):g}", "count": n, "height": 100 * n / top} for label, n in counts.items()]
        charts.append({"title": title, "bars": bars})
    return charts
