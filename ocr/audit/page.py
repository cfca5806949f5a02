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
MAX_ENLARGED = 3.0  # of a crop of small text
MARGIN_HEIGHTS = 1.5  # of a text, that a crop shows around it
MIN_MARGIN_PIXELS = 24
JPEG_QUALITY = 80


@dataclass(frozen=True)
class PageImage:
    """Image of the page: data URI of a JPEG, and the caption below it."""

    source: str
    caption: str


@dataclass
class Section:
    """A part of the page: a headline, a line on what it shows, rows of pictures."""

    title: str
    words: str
    rows: list[list[PageImage]] = field(default_factory=list)


def draw_image(
    path: str, caption: str, labels: Sequence[np.ndarray] = (), meant: Sequence[np.ndarray] = ()
) -> PageImage | None:
    """A whole image, small, or its part around what is meant; None where it cannot be read.

    Args:
        path: of the image.
        caption: below it.
        labels: polygons, drawn blue.
        meant: polygons, drawn orange; none for the whole image.
    """
    try:
        image = decode(Path(path), 1)
    except UndecodableImage:
        return None
    origin, side, enlarged = np.zeros(2, int), THUMBNAIL_PIXELS, 1.0
    if meant:
        points = np.concatenate(list(meant))
        low, high = points.min(axis=0), points.max(axis=0)
        margin = max(MIN_MARGIN_PIXELS, MARGIN_HEIGHTS * float(min(high - low)))
        origin = np.maximum(np.floor(low - margin), 0).astype(int)
        end = np.minimum(np.ceil(high + margin), image.shape[1::-1]).astype(int)
        image = image[origin[1] : end[1], origin[0] : end[0]]
        side, enlarged = CROP_PIXELS, MAX_ENLARGED
    scale = min(enlarged, side / max(image.shape[:2]))
    size = [max(1, round(pixels * scale)) for pixels in image.shape[1::-1]]
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = np.ascontiguousarray(cv2.resize(image, size, interpolation=way))
    for outlines, colour, width in ((labels, FOUND, 1), (meant, MISSED, 2)):
        draw_polygons(image, [(p - origin) * scale for p in outlines], colour, width)
    return PageImage(_uri(image), caption)


def _uri(image: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def render_page(result: dict[str, Any], sections: Sequence[Section], verdicts: Sequence[str], title: str) -> str:
    """The page: what ``audit.json`` has, the sections with pictures, and the main findings, a sentence each."""
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
