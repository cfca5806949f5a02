"""Label lines, encodings, and the ways in which label files and id lists name images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr.data.formats import label_format
from ocr.data.formats.manifest import ImageFinder
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.jobs.audit import read_splits
from tests.conftest import quad, write_image
from tests.tiny import run


def read_line(line: str, tmp_path: Path, before: str = "") -> tuple[list, Report]:
    image = write_image(tmp_path / "img/a.jpg", 400, 300)
    (tmp_path / "gt").mkdir(exist_ok=True)
    (tmp_path / "gt/a.txt").write_text(f"{before}{line}\n", encoding="utf-8")
    report = Report()
    [sample] = label_format("icdar").read(image.parent, tmp_path / "gt", None, report)
    return sample.instances, report


Q = "10,10,90,10,90,30,10,30"
SIX = "10,10,50,8,90,10,90,30,50,32,10,30"


@pytest.mark.parametrize(
    "line, points, text, ignore",
    [
        (f"{Q},TOTAL 12,50", 4, "TOTAL 12,50", False),
        (f"{Q},12,50", 4, "12,50", False),
        (f"{Q},1,234,567.00", 4, "1,234,567.00", False),
        (f"{Q},3,TEH TARIK", 4, "3,TEH TARIK", False),
        (f"{Q},1,234,TEH", 4, "1,234,TEH", False),
        (f'{Q},"###"', 4, "###", True),
        (f'{Q},"a ""b"" c"', 4, 'a "b" c', False),
        (Q, 4, "", False),
        (f"{SIX},TOTAL", 6, "TOTAL", False),
        (f"{SIX},TOTAL 5", 6, "TOTAL 5", False),
        ("10 10 90 30 TOTAL", 4, "TOTAL", False),
        ("10,10,90,30,TOTAL", 4, "TOTAL", False),
        ("10 10 90 10 90 30 10 30 TOTAL 5", 4, "TOTAL 5", False),
        ("10;10;90;10;90;30;10;30;TOTAL; 12,50", 4, "TOTAL; 12,50", False),
        ("10\t10\t90\t10\t90\t30\t10\t30\tTOTAL", 4, "TOTAL", False),
        ("1.05e1, 10, 90 ,10,90,30,10,30, TOTAL", 4, "TOTAL", False),
        (f"{Q},a\u2028b\u0085c", 4, "a\u2028b\u0085c", False),
    ],
)
def test_lines_of_the_icdar_family(line: str, points: int, text: str, ignore: bool, tmp_path: Path):
    plain = "".join(f"10,{y},90,{y},90,{y + 20},10,{y + 20},WORD\n" for y in (60, 90, 120))
    instances, report = read_line(line, tmp_path, plain)
    assert not report.counts and len(instances) == 4
    assert (len(instances[3].polygon), instances[3].text, instances[3].ignore) == (points, text, ignore)
    assert instances[3].polygon[:, 1].max() <= 32 and abs(instances[3].polygon[0] - 10).max() <= 0.5


def test_polygons_without_text_keep_all_their_points(tmp_path: Path):
    instances, report = read_line(SIX, tmp_path)
    assert len(instances[0].polygon) == 6 and not report.counts


@pytest.mark.parametrize(
    "column, note, ignored",
    [(["Latin", "None"], "ignored_column", 0), (["en", "KR"], "ignored_column", 0), (["0", "1"], "difficult", 1)],
)
def test_a_column_before_the_text_is_not_part_of_it(column: list[str], note: str, ignored: int, tmp_path: Path):
    lines = [f"10,{y},90,{y},90,{y + 20},10,{y + 20},{c},WORD, 5" for y, c in zip((10, 60), column)]
    instances, report = read_line("\n".join(lines), tmp_path)
    assert [i.text for i in instances] == ["WORD, 5"] * 2 and sum(i.ignore for i in instances) == ignored
    assert report.counts[note] == 1 and report.problems == 0


def test_a_first_word_that_happens_to_be_a_script_is_text(tmp_path: Path):
    instances, report = read_line(f"{Q},Latin,Quarter\n10,60,90,60,90,80,10,80,Total,5", tmp_path)
    assert [i.text for i in instances] == ["Latin,Quarter", "Total,5"] and not report.counts


@pytest.mark.parametrize("label", ["a.jpg.txt", "A.TXT", "gt_a.txt", "gt_a.jpg.TXT"])
def test_names_of_label_files(label: str, tmp_path: Path):
    image = write_image(tmp_path / f"img/{'A' if label[0] == 'A' else 'a'}.jpg")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / label).write_text(f"{Q},x\n")
    report = Report()
    [sample] = label_format("icdar").read(image.parent, tmp_path / "gt", None, report)
    assert sample.image == image and not report.counts


NAMES = ["shop1/001.jpg", "shop2/001.jpg", "shop2/my receipt.jpg", "0a1b2c3d-r0.jpg", "Scan.JPG"]


@pytest.mark.parametrize(
    "name, found",
    [
        ("shop1/001.jpg", [0]),
        ("./shop2/001.jpg", [1]),
        (r"D:\data\shop2\001.jpg", [1]),
        ("/mnt/other/images/shop1/001.jpg", [0]),
        ("001.jpg", [0, 1]),
        ("elsewhere/001.jpg", [0, 1]),
        ("shop1/001", [0]),
        ("/data/local-files/?d=scans/my%20receipt.jpg", [2]),
        ("https://bucket.host/x/my%20receipt.jpg?sig=a/b", [2]),
        ("file:///scans/my receipt.jpg", [2]),
        ("/data/upload/4/0a1b2c3d-r0.jpg", [3]),
        ("deadbeef-my receipt.jpg", [2]),
        ("1f0e6f3a-0000-4000-8000-00000000000a-my receipt.jpg", [2]),
        ("scan.jpg", [4]),
        ("other.jpg", []),
        ("", []),
    ],
)
def test_an_image_is_found_by_the_longest_common_end_of_its_path(name: str, found: list[int]):
    assert sorted(ImageFinder(NAMES).find(name)) == sorted(NAMES[k] for k in found)


def paddle(tmp_path: Path, rows: dict[str, object], encoding: str = "utf-8") -> tuple[list, Report]:
    text = "".join(f"{name}\t{json.dumps(entries, ensure_ascii=False)}\n" for name, entries in rows.items())
    (tmp_path / "Label.txt").write_bytes(text.encode(encoding))
    report = Report()
    return list(label_format("paddle").read(tmp_path / "img", tmp_path / "Label.txt", None, report)), report


def entry(x: float, text: str = "a", **more: object) -> dict[str, object]:
    return {"transcription": text, "points": quad(x, 10), **more}


def test_two_names_for_one_image_are_ambiguous_and_neither_is_used(tmp_path: Path):
    write_image(tmp_path / "img/001.jpg")
    samples, report = paddle(tmp_path, {"shop1/001.jpg": [entry(5)], "shop2/001.jpg": [entry(60)]})
    assert not samples and report.counts == {"ambiguous": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_unicode_of_any_width_is_read(encoding: str, tmp_path: Path):
    write_image(tmp_path / "img/小票.jpg")
    samples, report = paddle(tmp_path, {"img/小票.jpg": [entry(5, "合计")]}, encoding)
    assert samples[0].instances[0].text == "合计" and not report.counts


@pytest.mark.parametrize(
    "encoding, text", [("gb18030", "合计金额：五元"), ("shift_jis", "レシート"), ("cp1252", "Café")]
)
def test_another_code_page_is_refused_with_the_command_that_converts_it(encoding: str, text: str, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    with pytest.raises(UserError, match=r"Label.txt:1: not UTF-8 .*iconv -f \S+ -t UTF-8"):
        paddle(tmp_path, {"a.jpg": [entry(5, text)]}, encoding)


def test_of_a_label_file_per_image_only_the_text_suffers_from_another_code_page(tmp_path: Path):
    image = write_image(tmp_path / "img/a.jpg")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/a.txt").write_bytes(f"{Q},Café\n".encode("cp1252"))
    report = Report()
    [sample] = label_format("icdar").read(image.parent, tmp_path / "gt", None, report)
    assert sample.instances[0].text == "Caf�" and report.counts == {"not_utf8": 1} and report.problems == 0


@pytest.mark.parametrize("lines", ["img/{}.jpg", r"D:\\old\\{}.jpg", "./img/{}.jpg\t./gt/gt_{}.txt", "{}"])
def test_id_lists_of_other_trainers_and_machines(lines: str, tmp_path: Path):
    for name in "abc":
        write_image(tmp_path / f"img/{name}.jpg")
        (tmp_path / "gt").mkdir(exist_ok=True)
        (tmp_path / f"gt/gt_{name}.txt").write_text(f"{Q},x\n")
    (tmp_path / "train_list.txt").write_text("\r\n".join(lines.format(n, n) for n in "ab"))
    (tmp_path / "val_list.txt").write_text(lines.format("c", "c"))
    auto = dict.fromkeys(("format", "images", "annotations", "ids"), "auto") | {"hash_range": [0.0, 1.0]}
    data = {"root": str(tmp_path), **{name: [{"split": name, **auto}] for name in ("train", "val")}}
    assert {name: split.counts()["images"] for name, split in read_splits(data).items()} == {"train": 2, "val": 1}
    (tmp_path / "val_list.txt").write_text("img/other.jpg\n")
    with pytest.raises(UserError, match=r"val_list.txt names 1 images, 1 of which are not in"):
        read_splits(data)


def test_a_label_of_a_missing_folder_is_not_put_on_a_namesake(tmp_path: Path):
    for name in ("shopA/r0.jpg", "shopA/r1.jpg"):
        write_image(tmp_path / "img" / name, 200, 100)
    texts = json.dumps([{"transcription": "x", "points": quad(10, 10)}])
    rows = ["D:\\data\\shopA\\r0.jpg", "D:\\data\\shopB\\r1.jpg"]
    (tmp_path / "Label.txt").write_text("".join(f"{name}\t{texts}\n" for name in rows))
    report = Report()
    [sample] = label_format("paddle").read(tmp_path / "img", tmp_path / "Label.txt", None, report)
    assert sample.image.name == "r0.jpg" and report.counts == {"label_without_image": 1, "image_without_label": 1}
    (tmp_path / "Label.txt").write_text("".join(f"old/{name}\t{texts}\n" for name in ("r0.jpg", "r1.jpg")))
    report = Report()  # no folder has its old name
    assert len(list(label_format("paddle").read(tmp_path / "img", tmp_path / "Label.txt", None, report))) == 2
    assert not report.counts


def test_a_label_file_of_a_missing_folder_is_not_put_on_a_namesake(tmp_path: Path):
    for name in ("shopA/r0", "shopA/r1"):
        write_image(tmp_path / f"img/{name}.jpg", 200, 100)
    for name in ("shopA/gt_r0", "shopB/gt_r1"):
        (tmp_path / "gt" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"gt/{name}.txt").write_text(f"{Q},x\n")
    report = Report()
    [sample] = label_format("icdar").read(tmp_path / "img", tmp_path / "gt", None, report)
    assert sample.image.name == "r0.jpg" and report.counts == {"label_without_image": 1, "image_without_label": 1}
    (tmp_path / "gt/shopA").rename(tmp_path / "gt/shopC")
    report = Report()  # no folder has its old name
    assert len(list(label_format("icdar").read(tmp_path / "img", tmp_path / "gt", None, report))) == 2
    assert not report.counts


@pytest.mark.parametrize("folders", [("{}_label.txt", "photos"), ("{}.txt", ".")])
def test_images_of_the_other_split_are_a_note(folders: tuple[str, str], tmp_path: Path):
    label_file, images = folders
    for k in range(4):
        write_image(tmp_path / images / f"r{k}.jpg", 200, 100)
    texts = json.dumps([{"transcription": "x", "points": quad(10, 10)}])
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        (tmp_path / label_file.format(split)).write_text("".join(f"{images}/r{k}.jpg\t{texts}\n" for k in numbers))
    done = run("audit", f"data.root={tmp_path}", "json=true", "quick=true", cwd=tmp_path)
    audit = json.loads(done.stdout)
    assert done.returncode == 0 and audit["problems"] == {} and audit["notes"] == {"unlisted_image": 5}
    assert [audit["splits"][split]["images"] for split in ("train", "val")] == [2, 1]
    (tmp_path / label_file.format("val")).unlink()
    done = run("audit", f"data.root={tmp_path}", "json=true", "quick=true", cwd=tmp_path)
    assert done.returncode == 1 and json.loads(done.stdout)["problems"] == {"image_without_label": 2}


def test_most_of_an_image_unread_leaves_it_out(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    rows = {"a.jpg": [entry(5), entry(60), *({"transcription": "x", "points": "none"} for _ in range(3))]}
    paddle(tmp_path, rows)
    spec = {"format": "paddle", "images": "img", "annotations": "Label.txt"}
    split = read_splits({"root": str(tmp_path), "train": [spec], "val": [], "test": []})["train"]
    assert split.counts()["images"] == 0 and split.report.counts["many_unsound_labels"] == 1
