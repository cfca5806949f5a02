"""Formats with one label file for all images: its rows become samples, their images are found by name."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from ocr.data.formats.files import list_images, without_suffix
from ocr.data.formats.pairing import CommonTails, parents_match
from ocr.data.formats.shapes import NO_NUMBERS
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.types import Instance, Sample

MAX_CATEGORIES, MAX_CATEGORIES_SHOWN = 20, 8
MAX_SIDE = 10**9  # pixels; of a stated size beyond, which no image has
PAGE_COVERAGE = 0.4  # of an image, by the bounding box: no text line has that
IGNORED_CATEGORIES = frozenset({"ignore", "ignored", "dontcare", "donotcare", "illegible", "unreadable"})
UPLOAD_PREFIX = re.compile(
    r"^(?!\d{8}[-_])[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?[-_](?=.)"
)  # of Label Studio


class Entry(NamedTuple):
    """One labelled text of a row.

    Attributes:
        points: ``[[x, y], ...]``, ``[x1, y1, x2, y2, ...]`` or an array (N, 2), pixels; what is none is counted.
        text: transcription.
        ignore: whether it neither counts as found nor as missed.
        line: in the file, for messages; 0 for that of the row.
        category: of the object, in formats that have categories.
        difficult: what marks it as difficult, for the report; empty where nothing does.
        fault: why it cannot be read, for the report; empty where it can.
    """

    points: Any = None
    text: str = ""
    ignore: bool = False
    line: int = 0
    category: str = ""
    difficult: str = ""
    fault: str = ""


@dataclass
class Row:
    """The labels of one image in a label file.

    Attributes:
        name: of the image as the file gives it: a name, a path of any machine, or a URL.
        entries: its texts, sound or not.
        line: line or entry number in the file, for messages.
        size: (width, height) that the file states, None where it does not.
        file: that has it, for messages; None for that of the set.
        either_order: ``size`` may as well be (height, width).
    """

    name: str
    entries: list[Entry] = field(default_factory=list)
    line: int = 0
    size: tuple[int, int] | None = None
    file: Path | None = None
    either_order: bool = False


def samples_of(
    rows: Iterable[Row], images: Path, annotations: Path, ids: Sequence[str] | None, report: Report,
    categories: Sequence[str] | None = None,
) -> Iterator[Sample]:  # fmt: skip
    """Samples of the rows of a label file, in the order of the images' first mention.

    An image that is named several times gets the entries of all its rows. Where folders tell images apart, a name in
    another folder is that of another image, which is missing. Names that fit several images, and different
    names that fit the same one, are counted as ``ambiguous`` and left out; images that no row names as
    ``image_without_label``.

    Args:
        rows: of the file.
        images: folder of the images.
        annotations: the file.
        ids: names, stems or paths of the images to keep; None for all.
        report: gets what is left out.
        categories: those that are text; None for all, see :func:`choose_categories`.
    """
    paths = list_images(images)
    rows = choose_categories(list(rows), categories, annotations, report)
    finder = ImageFinder(paths)
    chosen = set(paths) if ids is None else set()
    for name in ids or ():
        if len(candidates := finder.find(name)) == 1:
            chosen.add(candidates[0])
        else:
            report.add("label_without_image", annotations, f"the id list names {name}, which no image is called")
    matched: list[tuple[Row, str]] = []
    for row in rows:
        candidates = finder.find(row.name)
        if ids is not None and not chosen.intersection(candidates):
            continue
        if len(candidates) == 1:
            matched.append((row, candidates[0]))
        elif candidates:
            report.add("ambiguous", annotations, f"{row.name} may be {' or '.join(sorted(candidates)[:3])}", row.line)
        else:
            report.add("label_without_image", row.file or annotations, f"no image {row.name} in {images}", row.line)
    by_image: dict[str, list[Row]] = {}
    folders_match = any(parents_match(normal_name(row.name), image) for row, image in matched)
    for row, image in matched:
        if folders_match and parents_match(normal_name(row.name), image) is False:  # of a folder that is not there
            report.add("label_without_image", row.file or annotations, f"{row.name}; {image} is another", row.line)
        else:
            by_image.setdefault(image, []).append(row)
    for image, rows_of_it in by_image.items():
        shortest = min((normal_name(row.name) for row in rows_of_it), key=len)
        if not all(f"/{normal_name(row.name)}".endswith(f"/{shortest}") for row in rows_of_it):
            names = " and ".join(dict.fromkeys(row.name for row in rows_of_it))
            report.add("ambiguous", annotations, f"{names} may both be {image}", rows_of_it[-1].line)
            continue
        yield sample_of(rows_of_it, paths[image], annotations, report)
    for image in sorted(chosen - set(by_image)):
        report.add("image_without_label", paths[image], f"not in {annotations}")


def choose_categories(
    rows: list[Row], categories: Sequence[str] | None, annotations: Path, report: Report
) -> list[Row]:
    """Rows with the entries of text alone.

    Args:
        rows: of the file.
        categories: those to keep; None for all, unless one of them outlines whole pages.
        annotations: the file.
        report: gets a note where several categories are taken.

    Raises:
        UserError: a category is not in the file, or one outlines whole pages and none was chosen.
    """
    rows = [_with_ignored_categories(row, categories or ()) for row in rows]
    used = Counter(entry.category for row in rows for entry in row.entries if not entry.ignore and not entry.fault)
    listed = ", ".join(f"{name or 'none'} ({count})" for name, count in used.most_common(MAX_CATEGORIES_SHOWN))
    if categories is not None:
        if unknown := set(categories) - set(used):
            raise UserError(f"{annotations}: no category {', '.join(sorted(unknown))}; in use are {listed}")
        return [replace(row, entries=[e for e in row.entries if _may_be_of(categories, e)]) for row in rows]
    pages = sorted(_page_categories(rows) & set(used) - {""})
    if pages:
        others = [name for name, _ in used.most_common(MAX_CATEGORIES_SHOWN) if name and name not in pages]
        text = ",".join(others) or pages[0]
        raise UserError(
            f"{annotations}: category {', '.join(pages)} outlines whole pages, which is no text; in use are {listed}: "
            f"choose with 'data.categories=[{text}]'"
        )
    if 1 < len(used) <= MAX_CATEGORIES:  # of more, the names are transcriptions
        report.add("several_categories", annotations, f"{listed}: all are taken as text; data.categories=[...] chooses")
    return rows


def _may_be_of(categories: Sequence[str], entry: Entry) -> bool:
    is_unknown = entry.fault != "" and not entry.category
    return is_unknown or entry.category in categories or _says_ignore(entry)


def _says_ignore(entry: Entry) -> bool:
    """Whether a category is one such as ``ignore`` or ``Don't care``."""
    return re.sub(r"[\W_]", "", entry.category).lower() in IGNORED_CATEGORIES


def _with_ignored_categories(row: Row, chosen: Sequence[str]) -> Row:
    """Mark text of an ignored category to be ignored, unless that category was chosen as text."""
    entries = [
        e._replace(ignore=True, difficult=f"category {e.category}")
        if _says_ignore(e) and e.category not in chosen and not e.fault
        else e
        for e in row.entries
    ]
    return replace(row, entries=entries)


def _page_categories(rows: Iterable[Row]) -> set[str]:
    """Categories half of whose objects cover more than :data:`PAGE_COVERAGE` of their images."""
    coverages: dict[str, list[float]] = {}
    for row in rows:
        if row.size is None and len({entry.category for entry in row.entries if not entry.fault}) == 1:
            continue  # a lone text reaches as far as itself: what it covers of the image is not known
        boxes = []
        for entry in row.entries:
            with contextlib.suppress(*NO_NUMBERS):
                points = np.asarray(entry.points, np.float64).reshape(-1, 2)
                boxes.append((entry.category, points.min(axis=0), points.max(axis=0)))
        reach = np.max([np.zeros(2), *(high for *_, high in boxes)], axis=0)  # the image is at least as large
        area = float(np.prod(reach if row.size is None else row.size))
        for category, low, high in boxes if area > 0 else ():
            coverages.setdefault(category, []).append(float((high - low).prod()) / area)
    return {name for name, values in coverages.items() if float(np.median(values)) > PAGE_COVERAGE}


def sample_of(rows: list[Row], image: Path, annotations: Path, report: Report) -> Sample:
    """A sample of all rows on one image; what does not parse is counted in the report."""
    for row in rows[1:]:
        report.add("repeated", annotations, f"{row.name} is listed a second time: equal boxes are kept once", row.line)
    instances: list[Instance] = []
    for row in rows:
        for entry in row.entries:
            where, line = row.file or annotations, entry.line or row.line
            if entry.difficult:
                report.add("difficult", where, entry.difficult, line)
            try:
                instances.append(Instance(_polygon(entry), entry.text, entry.ignore, line))
            except NO_NUMBERS as error:
                fault = entry.fault or f"points of {entry.text!r} are no list of [x, y] ({error})"
                report.add("unparsable_line", where, fault, line)
    first = rows[0]
    count = sum(len(row.entries) for row in rows)
    return Sample(image, instances, first.file or annotations, count, first.size, first.either_order)


def _polygon(entry: Entry) -> np.ndarray:
    polygon = np.asarray(entry.points, np.float32)
    if polygon.ndim == 1 and polygon.size and polygon.size % 2 == 0:
        polygon = polygon.reshape(-1, 2)
    if polygon.ndim != 2 or polygon.shape[1] != 2:
        raise ValueError(f"shape {polygon.shape}")
    return polygon


class ImageFinder:
    """Images of a folder by the names that label files of any machine give them.

    Args:
        paths: of the images below the folder, with ``/`` between the parts.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = set(paths)
        self._tails = CommonTails(self._paths)
        self._by_stem: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            self._by_stem.setdefault(without_suffix(path), []).append(path)
        self._stems = CommonTails(self._by_stem)

    def find(self, name: str) -> list[str]:
        """The images that a name may mean; more than one where it does not tell them apart.

        The path itself, else those with the longest end in common; a name without an image's suffix is a stem.
        """
        for variant in _variants(name):
            if variant in self._paths:
                return [variant]
        for variant in _variants(name):
            if tails := self._tails.find(variant):
                return tails
            if without_suffix(variant) == variant and (stems := self._stems.find(variant)):
                return [path for stem in stems for path in self._by_stem[stem]]
        return []


def normal_name(name: str) -> str:
    """A name without what machines write differently: separators, ``./`` and URL quoting."""
    return _variants(name)[-1]


def _variants(name: str) -> list[str]:
    """Spellings of a name: as it is, with ``/``, unquoted, without a URL's parts, without an upload prefix."""
    plain = name.strip().replace("\\", "/").removeprefix("./")
    local = plain.rpartition("?d=")[2]  # Label Studio's local files: /data/local-files/?d=<path>
    bare = unquote(re.sub(r"^[a-z][a-z0-9+.-]*://[^/]*/", "", local.partition("?")[0], flags=re.IGNORECASE))
    folder, slash, last = bare.rpartition("/")
    return list(dict.fromkeys([plain, unquote(plain), bare, folder + slash + UPLOAD_PREFIX.sub("", last)]))


def stated_size(entry: Any, width: str | int, height: str | int) -> tuple[int, int] | None:
    """(width, height) that an object or a list states under these keys or at these places; None where it does not."""
    try:
        w, h = (int(min(float(entry[key]), MAX_SIDE)) for key in (width, height))
    except (KeyError, IndexError, *NO_NUMBERS):
        return None
    return (w, h) if min(w, h) > 0 and max(w, h) > 1 else None  # 1 x 1 is a blank of some writers


def labelled(line: Mapping[str, Any]) -> list[tuple[Any, str, bool]]:
    """(polygon, text, ignore) of each text of a line of labels, or of ``predictions.jsonl``, which has no texts."""
    polygons = line["polygons"]
    texts = line.get("texts") or [""] * len(polygons)
    return list(zip(polygons, texts, line.get("ignore") or [False] * len(polygons)))
