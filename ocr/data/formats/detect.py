"""Detection of a folder's content: label format, place of the images, parts for training, validation and test.

Three ways to part a set are known, looked for in this order: folders ``train``, ``val`` and ``test``, each a set; label
files or folders with those words in their names; id lists ``train.txt``, ``val.txt`` and ``test.txt``. A part named
test is for testing and nothing else, also a lone one; where there is none, there is no test split. Where only the
validation part is missing, it is split off the training part. A set without parts is split by a hash of the image
names, see :func:`fill_in`.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ocr.data.formats import label_format, label_formats
from ocr.data.formats.files import is_image, list_images, read_ids, suffix_of, walk
from ocr.data.formats.manifest import ImageFinder
from ocr.data.formats.pairing import label_files
from ocr.data.formats.recognise import account_of, format_of, label_suffixes, per_image_formats
from ocr.data.formats.shards import LIST, read_list
from ocr.data.formats.shards import NAME as SHARDS
from ocr.errors import UserError

log = logging.getLogger(__name__)
AUTO = "auto"
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
SPLIT_WORDS = frozenset(word for words in SPLITS.values() for word in words)
MIN_COVERED = 0.9  # of the labelled names that a folder deep down has to have to be that of the images
MAX_FILES_OPENED = 20  # label files of a folder that are opened to see what they are
TEST_SPLIT_MIN_IMAGES = 100  # images of a set without parts; a tenth of fewer says nothing about a detector


def fill_in(spec: Mapping[str, Any], root: Path, whole: bool = False) -> dict[str, Any] | None:
    """The config of a source with its ``auto`` replaced by what lies below ``root``.

    Args:
        spec: see :func:`ocr.data.sources.build.build_source`; ``split``, train, val or test, says which part is
            meant, and ``hash_range`` which hashes of names it has in a set of :data:`TEST_SPLIT_MIN_IMAGES` or more
            images without parts. In a smaller one the range of val reaches to the end. With ``optional`` the source is
            left out where its id list does not exist.
        root: the folder.
        whole: take all of a set without parts.

    Returns:
        The config; None where that part does not exist.

    Raises:
        UserError: nothing is found, or several things are.
    """
    spec = dict(spec)
    if spec.pop("optional", False) and not (root / spec["ids"]).is_file():
        return None
    split = spec.pop("split", None)
    incomplete = AUTO in (spec.get("format"), spec.get("images"), spec.get("annotations"), spec.get("ids"))
    if not incomplete and split is None:
        return spec
    if not root.is_dir():
        raise UserError(f"{root} is no folder: no data there (data.root, or the root of a source)")
    parts: set[str] = set()
    if incomplete:
        spec, parts = _locate_shards(spec, root, split or "train") or _locate(spec, root, split or "train")
    if not parts:
        return spec if split is None else _hashed(spec, split, root, whole)
    if (split == "test" and "test" not in parts) or (split != "test" and parts == {"test"}):
        return None
    if split == "val" and "val" not in parts:
        spec["hash_range"] = [spec["hash_range"][0], 1.0]
    elif split != "train" or "val" in parts:
        spec["hash_range"] = None
    return spec


def _locate_shards(spec: dict[str, Any], root: Path, split: str) -> tuple[dict[str, Any], set[str]] | None:
    """Fill in the spec of a set in shards; None where there is none."""
    if spec.get("format") not in (AUTO, SHARDS) or {spec.get("images"), spec.get("annotations")} - {AUTO, None}:
        return None
    split_folders = {
        name: next((w for w in words if (root / w / LIST).is_file()), None) for name, words in SPLITS.items()
    }
    folders = _parts(split_folders, lone_test=not (root / LIST).is_file())
    folder = folders.get(split) or folders.get("train") or ("." if (root / LIST).is_file() else split_folders["train"])
    if folder is None:
        return None
    ids = None if spec.get("ids") == AUTO else spec.get("ids")  # a list of ids that somebody names is refused later
    located = {"format": SHARDS, "images": folder, "annotations": os.path.join(folder, LIST), "ids": ids}
    return spec | located, set(folders)


def _locate(spec: dict[str, Any], root: Path, split: str) -> tuple[dict[str, Any], set[str]]:
    """Locate labels and images of a split (train's where it has none); also return which splits there are."""
    folders = _parts({name: _part_folder(root, name) for name in SPLITS}, lone_test=not _labels_outside_parts(root))
    base, parts = folders.get(split) or folders.get("train") or root, set(folders)
    parts_of_files: set[str] = set()
    if AUTO in (spec.get("format"), spec.get("annotations")):
        labels, parts_of_files = _labels(base, spec, split)
        spec |= labels
        parts = parts or parts_of_files
    if spec.get("images") == AUTO:
        spec["images"] = os.path.relpath(_images(base, base / spec["annotations"]), root)
    if parts_of_files and not any(SPLIT_WORDS & _words(Path(part)) for part in Path(spec["images"]).parts):
        spec["shared_images"] = True
    if base != root:
        spec["annotations"] = os.path.relpath(base / spec["annotations"], root)
    if spec.get("ids") == AUTO:
        lists = {} if parts else _parts({name: _id_list(root, name, root / spec["images"]) for name in SPLITS})
        spec["ids"] = lists.get(split) or lists.get("train")
        parts = parts or set(lists)
        if not parts and split == "train":
            for name, other in (("train", "val"), ("val", "train")):
                if _id_list(root, name, root / spec["images"]):
                    log.warning("%s has an id list for %s and none for %s: it is not used", root, name, other)
    return spec, parts


def _parts(candidates: Mapping[str, Any], lone_test: bool = False) -> dict[str, Any]:
    """Keep the parts that exist; none where there is no training part, or nothing beside it."""
    parts = {name: part for name, part in candidates.items() if part}
    return parts if ("train" in parts and len(parts) > 1) or (lone_test and set(parts) == {"test"}) else {}


def _hashed(spec: dict[str, Any], split: str, root: Path, whole: bool) -> dict[str, Any] | None:
    """A split of a set without parts, by the hash of its image names."""
    if whole:
        return spec | {"hash_range": None}
    if spec["format"] == SHARDS:
        path = root / spec["images"] / LIST
        count = sum(shard.samples for shard in read_list(path.read_bytes(), str(path)))
    else:
        count = len(read_ids(root / spec["ids"]) if spec.get("ids") else list_images(root / spec["images"]))
    if count >= TEST_SPLIT_MIN_IMAGES:
        return spec
    if split == "test":
        return None
    if split == "val":
        log.info("%s has %d images, fewer than %d: split into train and val only, there is no test split",
                 root, count, TEST_SPLIT_MIN_IMAGES)  # fmt: skip
        spec["hash_range"] = [spec["hash_range"][0], 1.0]
    return spec


def _part_folder(root: Path, split: str) -> Path | None:
    """The folder of a split, if there is one with images and labels in it."""
    for folder in _folders(root)[1:]:
        if folder.name.lower() in SPLITS[split] and any(_label_files(folder)) and _has_images(folder):
            return folder
    return None


def _labels_outside_parts(root: Path) -> bool:
    folders = (path.relative_to(root).parts for _, path in _label_files(root))
    return any(not parts or parts[0].lower() not in SPLIT_WORDS for parts in folders)


def _has_images(folder: Path) -> bool:
    return any(is_image(name) for _, names in walk(folder) for name in names)


def _folders(base: Path) -> list[Path]:
    return [base, *sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))]


def _image_stems(folder: Path) -> set[str]:
    """Names of the images that lie in a folder itself."""
    return {os.path.splitext(e.name)[0] for e in os.scandir(folder) if is_image(e.name)}


def _label_files(base: Path) -> Iterator[tuple[str, Path]]:
    """Find (format, path): the label file of a whole set, or the folder of a set with one label file per image.

    Label files per image may lie deeper, as their images do: theirs is the folder right below ``base``.
    """
    for folder in _folders(base):
        files = [p for p in folder.iterdir() if p.is_file()]
        if folder == base or any(suffix_of(p.name) in label_suffixes() for p in files):
            yield from _labels_of(files, folder)
        elif parts := [f for f in _folders(folder)[1:] if f.name.lower() in SPLIT_WORDS]:  # labels/train, labels/val
            for part in parts:
                yield from ((kind, path) for kind, path in _labels_of(_files_below(part), part) if path == part)
        else:
            yield from _labels_of(_files_below(folder), folder)


def _files_below(folder: Path) -> list[Path]:
    return [directory / name for directory, names in walk(folder) for name in names]


def _labels_of(paths: list[Path], folder: Path) -> Iterator[tuple[str, Path]]:
    """(format, path) of the label files of whole sets; (format, folder) of those per image, where there are any."""
    files = sorted(path for path in paths if suffix_of(path.name) in label_suffixes())
    kinds = [(kind, path) for path in files[:MAX_FILES_OPENED] if (kind := format_of(path))]
    per_image = Counter(kind for kind, _ in kinds if kind in per_image_formats())
    yield from ((kind, folder) for kind, _ in per_image.most_common(1))
    yield from ((kind, path) for kind, path in kinds if kind not in per_image_formats())


def _labels(base: Path, spec: Mapping[str, Any], split: str) -> tuple[dict[str, str], set[str]]:
    """Format and annotations; and the splits that have label files of their own."""
    wanted_format, wanted_path = spec.get("format", AUTO), spec.get("annotations", AUTO)
    if wanted_path != AUTO:
        path = base / wanted_path
        if not path.exists():
            raise UserError(f"labels not found: {path} (data.annotations)")
        kinds = {kind for kind, p in _label_files(path if path.is_dir() else path.parent) if p == path}
        kinds = kinds or {kind for kind in [format_of(path)] if kind is not None}
        if len(kinds) != 1:
            raise UserError(f"{path}: cannot tell what its label format is; set data.format=...")
        return {"format": kinds.pop(), "annotations": wanted_path}, set()
    candidates = list(_label_files(base))
    if wanted_format != AUTO:
        alike = {wanted_format, *label_format(wanted_format).alike}
        candidates = [(wanted_format, path) for kind, path in candidates if kind in alike]
    by_split = {name: _of_split(candidates, base, name) for name in SPLITS}
    parts = _parts(by_split, lone_test=bool(candidates) and by_split["test"] == candidates)
    if parts:
        candidates = parts.get(split) or parts.get("train") or candidates
    if not candidates:
        raise UserError(
            f"{base}: no labels{'' if wanted_format == AUTO else f' of format {wanted_format}'} found, in it or in the "
            "folders in it; for others say data.format, data.images and data.annotations, see docs/data.md"
            + account_of(base)
        )
    if len(candidates) > 1:
        listed = ", ".join(f"{os.path.relpath(path, base)} ({kind})" for kind, path in candidates)
        sources = ",".join(
            f"{{format:{kind},images:{os.path.relpath(images, base)},annotations:{os.path.relpath(path, base)}}}"
            for kind, path, images in ((kind, path, _images(base, path)) for kind, path in candidates)
        )
        raise UserError(
            f"{base}: several sets of labels: {listed}; choose one with data.annotations=<path>, or join them: "
            f"'data.train=[{sources}]', and data.val in the same way"
        )
    kind, path = candidates[0]
    return {"format": kind, "annotations": os.path.relpath(path, base)}, set(parts)


def _of_split(candidates: list[tuple[str, Path]], base: Path, split: str) -> list[tuple[str, Path]]:
    """Keep files and folders whose name has a word for the split, the first word that any of them has."""
    for word in SPLITS[split]:
        named = [(kind, path) for kind, path in candidates if path != base and word in _words(path)]
        if named:
            return named
    return []


def _words(path: Path) -> set[str]:
    return set("".join(c if c.isalpha() else " " for c in path.stem.lower()).split())


def _images(base: Path, annotations: Path) -> Path:
    """Find the folder of the images: the only one with images, or the one whose names the label files share.

    Of label files for a whole set the folder beside them, where only that has images.
    """
    folders = [folder for folder in _folders(base) if _image_stems(folder)]
    if annotations.is_dir() and len(folders) != 1:
        kinds = [f.naming(annotations) for f in label_formats().values() if f.per_image]
        paths = {stem.removeprefix(prefix) for suffix, prefix in kinds for stem in label_files(annotations, suffix)}
        labelled = {Path(stem).name for stem in paths}
        if folders:
            shared = {folder: len(labelled & _image_stems(folder)) for folder in folders}
            best = [folder for folder in folders if shared[folder] == max(shared.values())]
            if len(best) > 1 and shared[best[0]]:
                listed = " and ".join(os.path.relpath(folder, base) for folder in best)
                raise UserError(f"{base}: {listed} have images of the same names: choose with data.images=<folder>")
            return best[0]
        deeper = {f: len(labelled & _image_stems(f)) for folder in _folders(base)[1:] for f in _folders(folder)[1:]}
        fullest = max(deeper, key=lambda folder: deeper[folder], default=base)
        return fullest if deeper.get(fullest, 0) > MIN_COVERED * len(paths) else base
    if annotations.is_file() and annotations.parent != base and not folders and _has_images(annotations.parent):
        return annotations.parent
    return folders[0] if len(folders) == 1 else base


def _id_list(root: Path, split: str, images: Path) -> str | None:
    """``<split>.txt`` or ``<split>_list.txt`` in the folder, when it names images.

    Raises:
        UserError: it names images, most of which are not there.
    """
    names = {f"{word}{end}.txt" for word in SPLITS[split] for end in ("", "_list")}
    folders = [folder for folder in (root, root / "ImageSets" / "Main", root / "ImageSets") if folder.is_dir()]
    path = next((p for folder in folders for p in sorted(folder.iterdir()) if p.name.lower() in names), None)
    if path is None or format_of(path) is not None:
        return None
    try:
        ids = read_ids(path)
    except UserError:  # an empty one
        return None
    finder = ImageFinder(list_images(images))
    known = sum(len(finder.find(name)) == 1 for name in ids)
    if known > len(ids) / 2:
        return os.path.relpath(path, root)
    if any(is_image(name) for name in ids):
        raise UserError(f"{path} names {len(ids)} images, {len(ids) - known} of which are not in {images}")
    return None
