"""Notes on images that were read, since they may hold less than a user sees in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ocr.data.index.check import count_pages
from ocr.data.transforms.decode import UndecodableImage, open_file, open_image
from ocr.pipeline import ResizePolicy

BLACK_LIMIT = 64  # grey levels that no pixel reaches: 16-bit files whose values have 14 bits or fewer stay below
MIN_LEGIBLE_SIDE = 200  # network pixels: on a narrower receipt (of 40 letters a line) detectors miss lines
LEGIBLE_ASPECT = 4.0  # times its shorter side: a limit (resize.max_aspect) under which receipts stay legible


def notes_on(name: str, image: np.ndarray, resize: ResizePolicy) -> dict[str, str]:
    """Details by kind, see :data:`ocr.data.index.report.NOTES`.

    Args:
        name: path of its file; of a drawn image any name.
        image: uint8 (H, W, 3).
        resize: the way to network size.
    """
    notes = {}
    height, width = image.shape[:2]
    if (pages := _pages(Path(name))) > 1:
        notes["further_pages"] = f"{pages} pages or frames"
    if (brightest := int(image.max(initial=0))) < BLACK_LIMIT:
        notes["nearly_black"] = f"its brightest value is {brightest} of 255"
    scale, kept = resize.scale(width, height), replace(resize, max_aspect=LEGIBLE_ASPECT).scale(width, height)
    content = resize.content_size(width, height)
    if scale < min(kept, 1) and min(content) < MIN_LEGIBLE_SIDE:
        notes["illegible"] = f"{width} x {height} pixels become {content[0]} x {content[1]}"
    return notes


def _pages(path: Path) -> int:
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        with open_file(path) as file, open_image(file) as image:
            return count_pages(image)
    except UndecodableImage:  # drawn, not read from a file
        return 1
