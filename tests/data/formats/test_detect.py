"""Folders as users have them: what is in them is found, or the message says what to set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr.data.formats.detect import fill_in
from ocr.data.formats.recognise import format_of
from ocr.data.index.identity import name_hash
from ocr.data.sources.build import build_sources
from ocr.errors import UserError
from tests.conftest import write_image

AUTO = {"format": "auto", "images": "auto", "annotations": "auto", "ids": "auto"}
LINE = "1,2,60,2,60,20,1,20,text\n"
PADDLE = 'photos/{}.png\t[{{"transcription": "a", "points": [[1, 2], [60, 2], [60, 20], [1, 20]]}}]\n'
COCO = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": []}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def find(root: Path) -> tuple[dict, dict]:
    train, val, _ = find_three(root)
    return train, val


def find_three(root: Path, whole: bool = False) -> tuple[dict, dict, dict | None]:
    shares = {"train": [0.0, 0.8], "val": [0.8, 0.9], "test": [0.9, 1.0]}
    return tuple(fill_in({"split": name, **AUTO, "hash_range": share}, root, whole) for name, share in shares.items())  # type: ignore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_image(tmp_path / "photos" / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize(
    "labels, content, expected",
    [
        ("labels/gt_{}.txt", LINE, "icdar"),
        ("photos/{}.txt", LINE, "icdar"),
        ("{}.csv", LINE, "sroie"),
        ("Label.txt", PADDLE.format("a"), "paddle"),
        ("photos/Label.txt", PADDLE.format("a"), "paddle"),
        ("annotations/all.json", COCO, "coco"),
        ("labels.json", {"a.png": {"polygons": []}}, "doctr"),
        ("words.json", {"images": {"a.png": {"words": {}}}}, "competition"),
        ("words.csv", "filename,polygons\na.png,1 2 60 2 60 20\n", "competition_csv"),
    ],
)
def test_one_set_is_found_and_split_by_hash(root: Path, labels: str, content: object, expected: str):
    paths = {write(root / labels.format(name), content) for name in ("a", "b")}
    write(root / "README.txt", "about the pictures")
    write(root / "settings.json", {"version": 1})
    train, val = find(root)
    place = next(iter(paths)) if len(paths) == 1 else next(iter(paths)).parent
    assert train["format"] == expected and root / train["annotations"] == place
    assert (root / train["images"]).resolve() == root / "photos"
    assert (train["hash_range"], val["hash_range"]) == ([0.0, 0.8], [0.8, 1.0]) and train["ids"] is None
    assert find_three(root)[2] is None, "three images are too few for a test split"


def test_a_hundred_images_without_parts_are_split_three_ways(root: Path):
    for name in ("a", "b"):
        write(root / f"labels/gt_{name}.txt", LINE)
    for k in range(97):
        write(root / "photos" / f"{k}.png", "")
    train, val, test = find_three(root)
    assert (train["hash_range"], val["hash_range"], test["hash_range"]) == ([0.0, 0.8], [0.8, 0.9], [0.9, 1.0])
    (root / "photos/96.png").unlink()
    train, val, test = find_three(root)
    assert (train["hash_range"], val["hash_range"], test) == ([0.0, 0.8], [0.8, 1.0], None), "99 are split two ways"
    explicit = {"format": "icdar", "images": "photos", "annotations": "labels", "ids": None, "hash_range": [0.9, 1.0]}
    assert fill_in({"split": "test", **explicit}, root) is None, "also where nothing has to be found"


def test_a_folder_without_parts_can_be_taken_whole(root: Path):
    write(root / "labels/gt_a.txt", LINE)
    assert find_three(root, whole=True)[2]["hash_range"] is None
    write(root / "train.txt", "a\nb\n")
    write(root / "val.txt", "c\n")
    assert find_three(root, whole=True)[2] is None, "it has parts, and none of them is for testing"


def test_a_list_that_is_optional_may_be_missing(root: Path):
    spec = {"format": "sroie", "images": "img", "annotations": "box", "ids": "test.txt", "optional": True}
    assert fill_in(spec, root) is None
    write(root / "test.txt", "a\n")
    assert fill_in(spec, root) == {k: v for k, v in spec.items() if k != "optional"}


def test_a_format_that_is_said_holds_for_lines_that_two_formats_share(root: Path):
    write(root / "box" / "a.txt", LINE)
    spec = {**AUTO, "format": "sroie", "hash_range": [0.0, 0.9]}
    assert fill_in(spec, root) | {"ids": None} == {
        "format": "sroie", "images": "photos", "annotations": "box", "ids": None, "hash_range": [0.0, 0.9]
    }  # fmt: skip
    with pytest.raises(UserError, match="no labels of format paddle"):
        fill_in({**spec, "format": "paddle"}, root)


def test_id_lists_split_it(root: Path):
    write(root / "box" / "a.csv", LINE)
    write(root / "train.txt", "a\nb\n")
    assert find(root)[0]["ids"] is None, "one list alone says nothing about the other part"
    write(root / "val.txt", "c.png\n")
    train, val = find(root)
    assert (train["ids"], val["ids"], train["hash_range"], val["hash_range"]) == ("train.txt", "val.txt", None, None)
    assert find_three(root)[2] is None, "without a part of that name there is no test split"
    write(root / "test.txt", "b\n")
    assert find_three(root)[2]["ids"] == "test.txt"
    (root / "val.txt").unlink()
    train, val, test = find_three(root)
    assert [(part["ids"], part["hash_range"]) for part in (train, val, test)] == [
        ("train.txt", [0.0, 0.8]), ("train.txt", [0.8, 1.0]), ("test.txt", None)
    ], "a part named test is never selected on: what is validated on comes from the training part"  # fmt: skip


def test_label_files_named_after_the_splits(root: Path):
    for name in ("train", "val", "test"):
        write(root / f"{name}.txt", PADDLE.format("a"))
    train, val, test = find_three(root)
    assert [part["annotations"] for part in (train, val, test)] == ["train.txt", "val.txt", "test.txt"]
    assert all(part["hash_range"] is None and part["ids"] is None for part in (train, val, test))
    (root / "val.txt").unlink()
    train, val, test = find_three(root)
    assert [(part["annotations"], part["hash_range"]) for part in (train, val, test)] == [
        ("train.txt", [0.0, 0.8]), ("train.txt", [0.8, 1.0]), ("test.txt", None)
    ]  # fmt: skip


def test_folders_named_after_the_splits(tmp_path: Path):
    for name in ("train", "val"):
        write_image(tmp_path / name / "images" / "a.png")
        write(tmp_path / name / "labels.json", {"a.png": {"polygons": []}})
    train, val, test = find_three(tmp_path)
    assert train == {"format": "doctr", "images": "train/images", "annotations": "train/labels.json", "ids": None,
                     "hash_range": None}  # fmt: skip
    assert val["images"] == "val/images" and test is None
    (tmp_path / "val").rename(tmp_path / "test")
    train, val, test = find_three(tmp_path)
    assert [(part["images"], part["hash_range"]) for part in (train, val, test)] == [
        ("train/images", [0.0, 0.8]), ("train/images", [0.8, 1.0]), ("test/images", None)
    ]  # fmt: skip


def test_what_is_said_is_left(root: Path):
    write(root / "one.json", COCO)
    write(root / "two.json", COCO)
    with pytest.raises(UserError, match=r"several sets of labels: one.json \(coco\), two.json"):
        find(root)
    assert fill_in({**AUTO, "annotations": "two.json"}, root)["format"] == "coco"
    for path in ("three.json", "nowhere/three.json"):
        with pytest.raises(UserError, match=rf"labels not found: .*{path} \(data.annotations\)"):
            fill_in({**AUTO, "annotations": path}, root)
    said = {"format": "icdar", "images": "x", "annotations": "y", "hash_range": [0, 1]}
    assert fill_in(said, root / "nowhere") == said


@pytest.mark.parametrize("content", ["0 0.5 0.5 0.1\n", "", "\x00\x01"])
def test_labels_of_other_kinds_are_not_taken_for_these(root: Path, content: str):
    assert format_of(write(root / "labels" / "a.txt", content)) is None
    with pytest.raises(UserError, match="no labels found.*data.format"):
        find(root)


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere is no folder"):
        find(tmp_path / "nowhere")


def test_a_part_that_is_left_empty_by_the_hash_says_so(root: Path):
    write(root / "labels" / "a.txt", LINE)
    write(root / "labels" / "b.txt", LINE)
    (root / "photos" / "c.png").unlink()
    train, val = find(root)
    sides = {(name_hash(name) >= 0.8) for name in "ab"}
    assert sides == {False}, "both are for training"
    assert build_sources([train], str(root), "train", False)[0][0].counts()["images"] == 2
    with pytest.raises(UserError, match="few names may all fall on one side; lower data.val_from"):
        build_sources([val], str(root), "val", False)
