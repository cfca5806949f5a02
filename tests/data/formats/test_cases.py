"""Exports as tools and people make them: the shared cases where they are there, and further variants of each kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from ocr.audit.splits import read_splits
from ocr.data.formats import label_format
from ocr.data.index.report import Report
from ocr.errors import UserError
from tests.conftest import ROOT, SHARED_DATA, quad, write_image
from tests.tiny import run

CASES = SHARED_DATA.parent / "cases"
EXPECTED = json.loads((CASES / "expected.json").read_text()) if (CASES / "expected.json").is_file() else {}
# the file says 10 images where there are 6, and one image less than the id lists name
CORRECTED = {"cvat_coco_rotated": {"images": 6, "instances": 302}, "ids_dbnet_pytorch": {"splits": {"val": 3}},
             "ids_paths": {"splits": {"train": 7}}}  # fmt: skip


def converted(case: str, output: Path) -> dict[str, list[shapely.Polygon]]:
    done = run(
        "convert", "data=folder", f"data.root={CASES / case}", "format=competition", f"output={output}", cwd=ROOT
    )
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
    done = run("audit", f"data.root={CASES / case}", "json=true", cwd=ROOT)
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
    assert report.counts == {"unparsable_line": 1, "difficult": 1} and sample.entries == 4
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
    (tmp_path / "test/gt/a.txt").write_text("10,10,60,10,60,30,10,30,x\n")
    auto = dict.fromkeys(("format", "images", "annotations", "ids"), "auto") | {"hash_range": [0.0, 1.0]}
    data = {"root": str(tmp_path), **{name: [{"split": name, **auto}] for name in ("train", "val", "test")}}
    assert {name: split.counts()["images"] for name, split in read_splits(data).items()} == {"test": 1}


@pytest.mark.parametrize("flag", ["ignore", "difficult", "illegible"])
@pytest.mark.parametrize("value", [True, False])
def test_attributes_that_mark_text_to_ignore(flag: str, value: bool, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    shape = {"label": "text", "points": quad(10, 10), "shape_type": "polygon", "flags": {flag: value}}
    (tmp_path / "labelme").mkdir()
    (tmp_path / "labelme/a.json").write_text(json.dumps({"shapes": [shape]}))
    attribute = f'<attribute name="{flag}">{str(value).lower()}</attribute>'
    box = f'<box label="text" xtl="10" ytl="10" xbr="50" ybr="20">{attribute}</box>'
    (tmp_path / "a.xml").write_text(f'<annotations><image name="a.jpg">{box}</image></annotations>')
    item = {"id": 1, "image_id": 1, "bbox": [10, 10, 40, 10], "attributes": {flag: value}}
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [item]}))
    for name, labels in (("labelme", "labelme"), ("cvat", "a.xml"), ("coco", "a.json")):
        [sample] = label_format(name).read(tmp_path / "img", tmp_path / labels, None, Report())
        assert [i.ignore for i in sample.instances] == [value], name
