"""Pairs of an image and its label file, by names and the ends of their paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from ocr.data.formats.files import list_images, walk, without_suffix
from ocr.data.index.report import Report
from ocr.errors import UserError

LISTS = frozenset({"classes.txt", "obj.names", "train.txt", "val.txt", "test.txt", "train_list.txt", "val_list.txt",
                   "test_list.txt", "readme.txt"})  # fmt: skip


def label_files(annotations: Path, suffix: str) -> dict[str, Path]:
    """Label files ``<stem><suffix>`` below a folder as {path of the stem below the folder: path}.

    The suffix may be in either case; the stem may be an image's whole name (``r0.jpg.txt``), or begin with a prefix,
    which is left to :func:`_pairs`. Lists that tools and trainers lay beside labels are none.

    Raises:
        UserError: the folder does not exist.
    """
    if not annotations.is_dir():
        raise UserError(f"label folder not found: {annotations} (set data.root=<folder>)")
    labels = {}
    for directory, names in walk(annotations):
        below = directory.relative_to(annotations).as_posix()
        for name in sorted(names):
            if name.lower().endswith(suffix) and not name.startswith(".") and name.lower() not in LISTS:
                stem = without_suffix(name[: -len(suffix)])
                labels[stem if below == "." else f"{below}/{stem}"] = directory / name
    return labels


def stems(images: Path, annotations: Path, suffix: str, prefix: str) -> list[str]:
    """All stems that have an image or a label file, sorted."""
    return sorted(_pairs(images, annotations, suffix, prefix))


def _pairs(images: Path, annotations: Path, suffix: str, prefix: str) -> dict[str, tuple[list[Path], Path | None]]:
    """Images and label file by stem, a path below the folder of images.

    A label file belongs to the image of the same path below its folder, else to the one whose path ends most alike;
    where folders tell images apart, not to one in a folder of another name.
    """
    images_of: dict[str, list[Path]] = {}
    label_of: dict[str, Path] = {}
    for name, path in list_images(images).items():
        images_of.setdefault(os.path.splitext(name)[0], []).append(path)
    tails = CommonTails(images_of)
    labels = {name: (_without_prefix(name, prefix), label) for name, label in label_files(annotations, suffix).items()}
    folders_match = any("/" in name and (name in images_of or bare in images_of) for name, (bare, _) in labels.items())
    for name, (bare, label) in labels.items():
        stem = name if name in images_of or bare == name or (tails.find(name) and not tails.find(bare)) else bare
        if stem in label_of:  # r0.txt and gt_r0.txt
            stem = name if stem != name else f"{name}{suffix}"
        namesakes = [] if stem in images_of or stem in label_of else tails.find(stem)
        if folders_match:
            namesakes = [other for other in namesakes if parents_match(stem, other) is not False]
        if len(namesakes) == 1 and namesakes[0] not in label_of:
            stem = namesakes[0]
        elif namesakes:
            images_of[stem] = [path for other in namesakes for path in images_of[other]]
        label_of[stem] = label
    return {stem: (images_of.get(stem, []), label_of.get(stem)) for stem in images_of | label_of}


def _without_prefix(name: str, prefix: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.removeprefix(prefix)


def parents_match(first: str, second: str) -> bool | None:
    """Whether the folders right above two paths have one name; None where one of the paths has no folder."""
    parents = [path.rpartition("/")[0].rpartition("/")[2].casefold() for path in (first, second)]
    return parents[0] == parents[1] if all(parents) else None


def pair_by_stem(
    images: Path, annotations: Path, suffix: str, prefix: str, ids: Sequence[str] | None, report: Report
) -> Iterator[tuple[Path, Path]]:
    """(image, label file) pairs for formats with one label file per image.

    What has no partner is counted in the report, and so is a label file that two images could have.
    """
    pairs = _pairs(images, annotations, suffix, prefix)
    for stem in sorted(pairs) if ids is None else _chosen(ids, pairs):
        paths, label = pairs.get(stem, ([], None))
        if len(paths) > 1 and label is not None:
            report.add("ambiguous", label, f"several images have this name: {', '.join(p.name for p in paths)}")
        elif not paths:
            report.add("label_without_image", label or annotations, f"no image {stem}.* in {images}")
        elif label is None:
            for path in paths:
                report.add("image_without_label", path, f"no label {prefix}{Path(stem).name}{suffix} in {annotations}")
        else:
            yield paths[0], label


def _chosen(ids: Sequence[str], pairs: Iterable[str]) -> Iterator[str]:
    """The stems that a list means: by their longest common end, so that lists of other machines fit."""
    known = CommonTails(pairs)
    for name in ids:
        stems = known.find(without_suffix(name))
        yield stems[0] if len(stems) == 1 else without_suffix(name)


class CommonTails:
    """Paths that are looked up by their last parts.

    Args:
        paths: with ``/`` between the parts.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = {}
        for path in paths:
            self._by_name.setdefault(path.rpartition("/")[2].casefold(), []).append(path)

    def find(self, path: str) -> list[str]:
        """Find the paths that share the most last parts with a path, at least the name; several in a tie."""
        parts = path.casefold().split("/")[::-1]
        common = {}
        for other in self._by_name.get(parts[0], ()):
            pairs = zip_longest(parts, other.casefold().split("/")[::-1])
            common[other] = next((k for k, (a, b) in enumerate(pairs) if a != b), len(parts))
        most = max(common.values(), default=0)
        return [other for other, k in common.items() if k == most]
