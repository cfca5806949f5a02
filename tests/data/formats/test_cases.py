"""Exports as tools and people make them: the shared cases where they are there, and further variants of each kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from ocr.data.formats import label_format
from ocr.data.formats.manifest import ImageFinder
from ocr.data.formats.run_lengths import run_length_outlines
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.jobs.audit import read_splits
from tests.conftest import ROOT, SHARED_DATA, quad, write_image

CASES = SHARED_DATA.parent / "cases"
EXPECTED = json.loads((CASES / "expected.json").read_text()) if (CASES / "expected.json").is_file() else {}
# the file says 10 images where there are 6, and one image less than the id lists name
CORRECTED = {"cvat_coco_rotated": {"images": 6, "instances": 302}, "ids_dbnet_pytorch": {"splits": {"val": 3}},
             "ids_paths": {"splits": {"train": 7}}}  # fmt: skip


def run(runner: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / f"runners/{runner}.py"), "data=folder", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def converted(case: str, output: Path) -> dict[str, list[shapely.Polygon]]:
    done = run("convert", f"data.root={CASES / case}", "format=competition", f"output={output}")
    assert done.returncode == 0, done.stderr
    found = {}
    for file in output.rglob("competition.json"):
        for name, entry in json.loads(file.read_text())["images"].items():
            found[name[-7:-4]] = [shapely.Polygon(word["points"]) for word in entry["words"].values()]
    return found


@pytest.mark.skipif(not EXPECTED, reason="needs ../shared/cases")
@pytest.mark.parametrize("case", EXPECTED or ["none"])
def test_shared_cases_are_read_as_they_say(case: str, tmp_path: Path):
    expected = EXPECTED[case] | CORRECTED.get(case, {})
    done = run("audit", f"data.root={CASES / case}", "json=true")
    if "error" in expected or (done.returncode == 2 and "or_error" in expected):
        assert done.returncode == 2 and not done.stdout
        assert expected.get("error", expected.get("or_error")) in done.stderr and done.stderr.count("\n") == 1
        return
    assert done.returncode in (0, 1), done.stderr
    audit = json.loads(done.stdout)
    assert {k: audit["total"][k] for k in audit["total"] if k in expected} == {
        k: v for k, v in expected.items() if k in audit["total"]
    }
    assert {k: audit["splits"][k]["images"] for k in expected.get("splits", {})} == expected.get("splits", {})
    assert expected.get("problem") is None or expected["problem"] in audit["problems"]
    assert not set(expected.get("no_problem", ())) & set(audit["problems"])
    if "truth" in expected:
        truth = converted("plain" if expected["truth"] is True else expected["truth"], tmp_path / "truth")
        got = converted(case, tmp_path / "got")
        assert got.keys() == truth.keys()
        for name, polygons in truth.items():
            ious = [max(p.intersection(q).area / p.union(q).area for q in got[name]) for p in polygons]
            # ppocr_winpath has a box of seven pixels with a point more on each long side, a pixel further out
            assert len(ious) == len(got[name]) and min(ious) > (0.87 if case == "ppocr_winpath" else 0.9)


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
        ("/home/other/images/shop1/001.jpg", [0]),
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


def coco(tmp_path: Path, annotations: list[dict], size: tuple[int, int] | None = None, **more: object) -> Path:
    image = {"id": 1, "file_name": "a.jpg"} | ({"width": size[0], "height": size[1]} if size else {})
    file = tmp_path / "coco.json"
    file.write_text(json.dumps({"images": [image], "annotations": annotations, **more}))
    return file


def split_of(tmp_path: Path, **more: object):
    spec = {"format": "coco", "images": "img", "annotations": "coco.json", **more}
    return read_splits({"root": str(tmp_path), "train": [spec], "val": [], "test": []})["train"]


@pytest.mark.parametrize(
    "stated, factor, note",
    [((200, 100), 1.0, None), ((100, 50), 0.5, "scaled_labels"), ((400, 200), 2.0, "scaled_labels"),
     ((67, 33), 1 / 3, "scaled_labels")],
)  # fmt: skip
def test_labels_of_a_scaled_image_are_scaled(stated: tuple[int, int], factor: float, note: str | None, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    points = np.array(quad(20, 20)) * factor
    coco(tmp_path, [{"image_id": 1, "segmentation": [points.ravel().tolist()]}], stated)
    split = split_of(tmp_path)
    np.testing.assert_allclose(split.sources[0].index.truth(0).polygons[0], quad(20, 20), atol=0.5)
    assert dict(split.report.counts) == ({note: 1} if note else {})


def test_labels_of_another_size_are_refused_with_both_sizes(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    coco(tmp_path, [{"image_id": 1, "segmentation": [np.ravel(quad(5, 5)).tolist()]}], (100, 200))
    split = split_of(tmp_path)
    assert split.report.counts == {"size_mismatch": 1} and split.counts()["images"] == 0
    assert "100 x 200" in (said := split.report.examples["size_mismatch"][0]) and "200 x 100" in said


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_of_the_stored_pixels_are_turned_as_a_viewer_turns_them(orientation: int, tmp_path: Path):
    (tmp_path / "img").mkdir()
    stored = Image.new("RGB", (200, 100), "white")
    stored.paste("black", (20, 30, 80, 50))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "img/a.jpg", exif=exif, quality=95)
    box = [20, 30, 80, 30, 80, 50, 20, 50]
    coco(tmp_path, [{"image_id": 1, "segmentation": [box]}], (200, 100))
    source = split_of(tmp_path).sources[0]
    pixels, truth = source.load(0)
    (x0, y0), (x1, y1) = truth.polygons[0].min(axis=0).astype(int), truth.polygons[0].max(axis=0).astype(int)
    assert pixels.shape[:2] == (200, 100) and pixels[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].max() < 60
    assert (pixels < 128).all(axis=2).sum() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.05)


CATEGORIES = [{"id": 1, "name": "page"}, {"id": 2, "name": "line"}, {"id": 3, "name": "logo"}]


def test_a_category_that_outlines_pages_is_never_taken_for_text_unasked(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    page = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 198, 99]}
    line = {"image_id": 1, "category_id": 2, "bbox": [10, 10, 50, 10]}
    coco(tmp_path, [page, line], (200, 100), categories=CATEGORIES)
    with pytest.raises(UserError, match=r"category page outlines whole pages.*page \(1\).*data.categories=\[line\]"):
        split_of(tmp_path)
    assert split_of(tmp_path, categories=["line"]).counts()["instances"] == 1
    with pytest.raises(UserError, match=r"no category word; in use are"):
        split_of(tmp_path, categories=["word"])
    coco(tmp_path, [line, line | {"category_id": 3, "bbox": [80, 60, 50, 10]}], (200, 100), categories=CATEGORIES)
    split = split_of(tmp_path)
    assert split.counts()["instances"] == 2 and split.report.counts == {"several_categories": 1}


@pytest.mark.parametrize("degrees", [0, 20, -35, 340])
def test_rotation_turns_a_box_about_its_centre(degrees: float, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 400, 300)
    attributes = {"rotation": degrees, "occluded": False}
    coco(tmp_path, [{"image_id": 1, "bbox": [100, 100, 80, 20], "segmentation": [], "attributes": attributes}])
    polygon = shapely.Polygon(split_of(tmp_path).sources[0].index.truth(0).polygons[0])
    wanted = shapely.affinity.rotate(shapely.box(100, 100, 180, 120), degrees, "center")  # y down: clockwise on screen
    assert polygon.intersection(wanted).area / polygon.union(wanted).area > 0.99


def packed(counts: list[int]) -> str:
    """COCO's compressed run lengths, written after rleToString of pycocotools."""
    text = ""
    for k, count in enumerate(counts):
        value, more = count - (counts[k - 2] if k > 2 else 0), True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text += chr((bits | (0x20 if more else 0)) + 48)
    return text


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_become_outlines(compressed: bool):
    mask = np.zeros((60, 200), np.uint8)
    mask[10:25, 20:120] = 1
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    [outline] = run_length_outlines({"size": [60, 200], "counts": packed(counts) if compressed else counts})
    assert shapely.Polygon(outline).symmetric_difference(shapely.box(20, 10, 120, 25)).area < 1


@pytest.mark.parametrize("counts", [[5, 3], "!!", [-1, 3], None, [1.5, "x"], [10**12]])
def test_damaged_run_lengths_are_no_outlines(counts: object):
    assert run_length_outlines({"size": [60, 200], "counts": counts}) == []


def test_most_of_an_image_unread_leaves_it_out(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    rows = {"a.jpg": [entry(5), entry(60), *({"transcription": "x", "points": "none"} for _ in range(3))]}
    paddle(tmp_path, rows)
    spec = {"format": "paddle", "images": "img", "annotations": "Label.txt"}
    split = read_splits({"root": str(tmp_path), "train": [spec], "val": [], "test": []})["train"]
    assert split.counts()["images"] == 0 and split.report.counts["many_unsound_labels"] == 1


def test_nobody_has_labelled_a_task_without_annotations(tmp_path: Path):
    for name in ("a", "b"):
        write_image(tmp_path / f"img/{name}.jpg", 200, 100)
    box = {"x": 10, "y": 10, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["Text"]}
    result = [{"id": "1", "original_width": 200, "original_height": 100, "type": "rectanglelabels", "value": box}]
    tasks = [{"data": {"ocr": "/data/a.jpg"}, "annotations": [{"result": result}]},
             {"data": {"ocr": "/data/b.jpg"}, "annotations": [], "predictions": [{"result": result}]}]  # fmt: skip
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    report = Report()
    [sample] = label_format("label_studio").read(tmp_path / "img", tmp_path / "tasks.json", None, report)
    assert sample.image.name == "a.jpg" and report.counts == {"image_without_label": 1}
    # turned about the top left corner, clockwise: x to the left, y down
    np.testing.assert_allclose(sample.instances[0].polygon, [[20, 10], [20, 50], [10, 50], [10, 10]], atol=1e-4)


def test_shapes_that_enclose_no_text_are_counted(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    shapes = [
        {"label": "a", "points": [[10, 10], [60, 30]], "shape_type": "rectangle"},
        {"label": "b", "points": [[100, 50], [110, 50]], "shape_type": "circle"},
        {"label": "c", "points": [[10, 60], [60, 60]], "shape_type": "line"},
        {"label": "d", "points": quad(10, 70), "shape_type": "polygon", "difficult": True},
    ]
    (tmp_path / "img/a.json").write_text(json.dumps({"shapes": shapes, "imageWidth": 200, "imageHeight": 100}))
    report = Report()
    [sample] = label_format("labelme").read(tmp_path / "img", tmp_path / "img", None, report)
    assert [i.text for i in sample.instances] == ["a", "b", "d"] and sample.entries == 4
    assert report.counts == {"unparsable_line": 1, "difficult": 1, "several_categories": 1}
    assert sample.instances[2].ignore
    assert shapely.Polygon(sample.instances[1].polygon).area == pytest.approx(np.pi * 100, rel=0.03)


@pytest.mark.parametrize(
    "shape, area",
    [
        ({"name": "rect", "x": 10, "y": 10, "width": 40, "height": 20}, 800),
        ({"name": "circle", "cx": 50, "cy": 50, "r": 10}, np.pi * 100),
        ({"name": "ellipse", "cx": 50, "cy": 50, "rx": 20, "ry": 10, "theta": 0.5}, np.pi * 200),
        ({"name": "polygon", "all_points_x": [10, 50, 50, 10], "all_points_y": [10, 10, 30, 30]}, 800),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_via_has_several_shapes_and_versions(shape: dict, area: float, version: int, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    region = {"shape_attributes": shape, "region_attributes": {"label": "TOTAL"}}
    images = {"a.jpg1": {"filename": "a.jpg", "regions": {"0": region} if version == 1 else [region]}}
    content = images if version == 1 else {"_via_settings": {}, "_via_img_metadata": images}
    (tmp_path / "via.json").write_text(json.dumps(content))
    [sample] = label_format("via").read(tmp_path / "img", tmp_path / "via.json", None, Report())
    assert shapely.Polygon(sample.instances[0].polygon).area == pytest.approx(area, rel=0.03)
    assert sample.instances[0].text == "TOTAL"


def test_cvat_has_boxes_masks_and_refuses_video_and_entities(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    shapes = (
        '<box label="text" xtl="10" ytl="10" xbr="50" ybr="20" rotation="90"/>'
        '<mask label="text" left="100" top="50" width="4" height="3" rle="0,12"/>'
        '<polyline label="text" points="1,1;2,2"/>'
        '<box label="ignore" xtl="60" ytl="10" xbr="90" ybr="20"><attribute name="text">x &amp; y</attribute></box>'
    )
    file = tmp_path / "a.xml"
    file.write_text(f'<annotations><image name="img/a.jpg" width="200" height="100">{shapes}</image></annotations>')
    report = Report()
    [sample] = label_format("cvat").read(tmp_path / "img", file, None, report)
    bounds = [(*i.polygon.min(axis=0), *i.polygon.max(axis=0)) for i in sample.instances]
    np.testing.assert_allclose(bounds, [[25, -5, 35, 35], [100, 50, 104, 53], [60, 10, 90, 20]], atol=0.01)
    assert sample.instances[2].ignore and sample.instances[2].text == "x & y"
    assert report.counts == {"unparsable_line": 1} and sample.entries == 4
    for content, message in (
        ("<annotations><track/></annotations>", "CVAT for video"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotations/>', "document type or entities"),
        ("<annotations><image></annotations>", r"a.xml:1: not valid XML"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=message):
            list(label_format("cvat").read(tmp_path / "img", file, None, Report()))


@pytest.mark.parametrize("layout", ["{kind}/{part}", "{part}/{kind}"])
@pytest.mark.parametrize("line", ["0 0.1 0.1 0.5 0.1 0.5 0.3 0.1 0.3", "0 0.3 0.2 0.4 0.2"])
def test_yolo_is_found_in_either_layout(layout: str, line: str, tmp_path: Path):
    for part, names in (("train", "ab"), ("val", "c")):
        for name in names:
            write_image(tmp_path / layout.format(kind="images", part=part) / f"{name}.jpg", 200, 100)
            labels = tmp_path / layout.format(kind="labels", part=part) / f"{name}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(f"{line}\n1 0.1 0.6 0.5 0.6 0.5 0.8 0.1 0.8\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: {0: text, 1: logo}\n")
    auto = dict.fromkeys(("format", "images", "annotations", "ids"), "auto") | {"hash_range": [0.0, 1.0]}
    data = {"root": str(tmp_path), **{name: [{"split": name, **auto}] for name in ("train", "val")}}
    splits = read_splits(data)
    assert {name: split.counts()["images"] for name, split in splits.items()} == {"train": 2, "val": 1}
    assert all(split.report.counts == {"several_categories": 1} for split in splits.values())
    np.testing.assert_allclose(splits["val"].sources[0].index.truth(0).polygons[0], quad(20, 10, 80, 20), atol=1e-3)
    data["train"][0]["categories"] = ["text"]
    assert read_splits(data)["train"].counts()["instances"] == 2


def test_a_lone_test_folder_is_for_testing_only(tmp_path: Path):
    write_image(tmp_path / "test/img/a.jpg")
    (tmp_path / "test/gt").mkdir()
    (tmp_path / "test/gt/a.txt").write_text(f"{Q},x\n")
    auto = dict.fromkeys(("format", "images", "annotations", "ids"), "auto") | {"hash_range": [0.0, 1.0]}
    data = {"root": str(tmp_path), **{name: [{"split": name, **auto}] for name in ("train", "val", "test")}}
    assert {name: split.counts()["images"] for name, split in read_splits(data).items()} == {"test": 1}


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
    done = run("audit", f"data.root={tmp_path}", "json=true", "quick=true")
    audit = json.loads(done.stdout)
    assert done.returncode == 0 and audit["problems"] == {} and audit["notes"] == {"unlisted_image": 5}
    assert [audit["splits"][split]["images"] for split in ("train", "val")] == [2, 1]
    (tmp_path / label_file.format("val")).unlink()
    done = run("audit", f"data.root={tmp_path}", "json=true", "quick=true")
    assert done.returncode == 1 and json.loads(done.stdout)["problems"] == {"image_without_label": 2}
