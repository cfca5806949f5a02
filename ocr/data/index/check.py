"""Checks of one sample: is its image readable, are its polygons sound, is nothing of it hidden."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import shapely
from PIL import Image

from ocr.data.index.report import Report
from ocr.data.transforms.decode import UndecodableImage, open_file, open_image, orientation, shown_size
from ocr.geometry import polygons as geometry
from ocr.pipeline import ResizePolicy
from ocr.types import RELATIVE, Instance, Sample

TAIL = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
TAIL_BYTES = 64


@dataclass(frozen=True)
class Header:
    """An image that is whole.

    Attributes:
        size: (width, height) as a viewer shows it.
        pages: pages or frames in the file, of which only the first is read.
        orientation: EXIF's, 1 to 8, by which a viewer turns the stored pixels.
    """

    size: tuple[int, int]
    pages: int
    orientation: int = 1


def read_header(path: Path) -> Header:
    """The header of an image, and whether the file is whole.

    Raises:
        UndecodableImage: the file is missing, is no image, is too large, or ends early.
    """
    with open_file(path) as file, open_image(file) as image:
        size, turned = shown_size(image), orientation(image)
        pages = count_pages(image)
        if not _tail_is_whole(file, image.format or ""):
            image.load()  # the exact answer, for files that look cut off
    return Header(size, pages, turned)


def count_pages(image: Image.Image) -> int:
    """Pages or frames; a phone's MPO is one picture, with others for other uses."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _tail_is_whole(file: BinaryIO, kind: str) -> bool:
    ending = TAIL.get(kind)
    if ending is None:
        return False
    position = file.tell()
    file.seek(0, 2)
    file.seek(max(0, file.tell() - TAIL_BYTES))
    whole = ending in file.read()
    file.seek(position)
    return whole


def check_image(sample: Sample, report: Report) -> Header | None:
    """The header of a sample's image, or None after a line in the report."""
    try:
        header = read_header(sample.image)
    except UndecodableImage as error:
        truncated = any(word in str(error).lower() for word in ("truncated", "broken", "incomplete"))
        report.add("truncated_image" if truncated else "unreadable_image", sample.image, str(error))
        return None
    if header.pages > 1:
        report.add("further_pages", sample.image, f"{header.pages} pages or frames")
    return header


def in_shown_pixels(sample: Sample, header: Header, report: Report) -> Sample | None:
    """Convert labels to pixels of the image as a viewer shows it, by the size that the label file states.

    That may be the viewer's size, the one that the pixels are stored in (turned by EXIF), or either of them scaled.

    Returns:
        The sample, or None after a line in the report: the stated size is none of these.
    """
    size, shown = sample.size, header.size
    if size is None or size == shown or (sample.either_order and size[::-1] == shown):
        return sample
    if size == RELATIVE:
        return replace(sample, instances=[replace(i, polygon=i.polygon * shown) for i in sample.instances])
    if sample.either_order and not _same_shape(size, shown):
        size = size[::-1]
    where = sample.labels or sample.image
    stored = shown[::-1] if header.orientation >= 5 else shown
    stated, has = "{} x {}".format(*size), "{} x {}".format(*shown)
    for frame, turn in ((shown, 1), (stored, header.orientation)):
        if min(size) > 0 and _same_shape(size, frame):
            factor = max(frame) / max(size)  # the longer side is rounded less
            instances = [replace(i, polygon=_turned(i.polygon * factor, turn, *frame)) for i in sample.instances]
            kind = "turned_labels" if frame != shown else "scaled_labels"
            report.add(kind, where, f"labels of {stated} pixels, {sample.image.name} has {has}")
            return replace(sample, instances=instances, size=shown)
    report.add("size_mismatch", where, f"{stated} stated for {sample.image.name}, which has {has}")
    return None


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other scaled, to whole pixels."""
    (w, h), (width, height) = one, other
    return abs(width * h / height - w) <= 1 or abs(height * w / width - h) <= 1


def _turned(points: np.ndarray, orientation: int, width: int, height: int) -> np.ndarray:
    """Turn points (N, 2) of the stored pixels, width x height, by EXIF orientation (EXIF 2.3, tag 0x0112)."""
    x, y = points.T
    turns = {2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y), 5: (y, x), 6: (height - y, x),
             7: (height - y, width - x), 8: (y, width - x)}  # fmt: skip
    return np.stack(turns.get(orientation, (x, y)), axis=1).astype(np.float32)


def check_instances(sample: Sample, width: int, height: int, report: Report) -> list[Instance]:
    """The sound instances of a sample, in normal form; the others are counted in the report.

    Quads whose corners cross are untangled. Other self-crossing polygons become ignored regions, so that the text
    below them is not taught as background. Parts outside the image are cut off. Of equal outlines one stays.
    """
    unique: dict[bytes, Instance] = {}
    for instance in _checked(sample, width, height, report):
        if unique.setdefault(np.round(instance.polygon, 1).tobytes(), instance) is not instance:
            report.add("repeated", sample.labels or sample.image, f"the box of {instance.text!r}", instance.line)
    return [*unique.values()]


def _checked(sample: Sample, width: int, height: int, report: Report) -> list[Instance]:
    if sample.instances and all(np.shape(i.polygon) == (4, 2) for i in sample.instances):
        with np.errstate(invalid="ignore", over="ignore"):
            quads = np.stack([i.polygon for i in sample.instances]).astype(np.float32)
            sound, normal = geometry.normal_quads(quads, width, height)
        if sound.all():
            return [Instance(q, i.text, i.ignore, i.line) for q, i in zip(normal, sample.instances)]
    return [fine for i in sample.instances if (fine := _check_one(i, sample, width, height, report)) is not None]


def _check_one(instance: Instance, sample: Sample, width: int, height: int, report: Report) -> Instance | None:
    where = sample.labels or sample.image
    raw = np.asarray(instance.polygon, np.float32).reshape(-1, 2)
    if not np.isfinite(raw).all():
        report.add("not_finite", where, "a coordinate is NaN or infinite", instance.line)
        return None
    polygon = geometry.normal_form(raw)
    if len(polygon) < 3:
        kind = "too_few_points" if len(raw) < 3 else "zero_area"
        report.add(kind, where, f"{len(polygon)} distinct point(s)", instance.line)
        return None
    ignore = instance.ignore
    if not shapely.is_valid(shapely.Polygon(polygon)):
        if shapely.convex_hull(shapely.MultiPoint(polygon)).area < geometry.MIN_AREA:
            report.add("zero_area", where, "the points lie on a line", instance.line)
            return None
        report.add("self_crossing", where, f"the outline of {instance.text!r} crosses itself", instance.line)
        if len(polygon) == 4:
            polygon = geometry.untangle_quad(polygon)
        else:
            hull = shapely.convex_hull(shapely.MultiPoint(polygon))
            polygon, ignore = geometry.normal_form(shapely.get_coordinates(hull.exterior)), True
    if abs(geometry.signed_areas([polygon])[0]) < geometry.MIN_AREA:
        report.add("zero_area", where, f"{instance.text!r} covers less than a pixel", instance.line)
        return None
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if low[0] < 0 or low[1] < 0 or high[0] > width or high[1] > height:
        clipped = geometry.clip_to_image(polygon, width, height)
        if clipped is None:
            report.add("outside_image", where, f"{instance.text!r} lies outside {width} x {height}", instance.line)
            return None
        report.add("partly_outside", where, f"{instance.text!r} reaches outside {width} x {height}", instance.line)
        polygon = clipped
    return Instance(polygon, instance.text, ignore, instance.line)


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
