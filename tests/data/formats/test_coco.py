"""COCO: stated sizes, categories, rotation, masks as run lengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from ocr.audit.splits import read_splits
from ocr.data.formats import label_format
from ocr.data.formats.run_lengths import run_length_outlines
from ocr.data.index.report import Report
from ocr.errors import UserError
from tests.conftest import quad, write_image


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


@pytest.mark.parametrize("name", ["ignore", "Don't care", "ILLEGIBLE", "do_not_care"])
def test_a_category_that_says_ignore_is_ignored_text(name: str, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 200, 100)
    boxes = [{"image_id": 1, "category_id": k, "bbox": [10, 30 * k, 50, 10]} for k in (1, 2)]
    coco(tmp_path, boxes, (200, 100), categories=[{"id": 1, "name": "text"}, {"id": 2, "name": name}])
    for chosen in (None, ["text"]):
        split = split_of(tmp_path, categories=chosen)
        assert split.sources[0].index.ignore.tolist() == [False, True]
        assert split.report.counts == {"difficult": 1}
    assert split_of(tmp_path, categories=["text", name]).sources[0].index.ignore.tolist() == [False, False]


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


def test_a_lone_text_of_an_image_of_unknown_size_is_no_page(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 400, 300)
    names = [{"id": 1, "name": "text"}, {"id": 2, "name": "receipt"}]
    text, page = {"id": 1, "bbox": [10, 10, 40, 10]}, {"id": 2, "bbox": [5, 5, 300, 280]}
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "categories": names}
    alone, both = (
        [{**item, "image_id": 1, "category_id": item["id"]} for item in items] for items in ([text], [text, page])
    )
    (tmp_path / "a.json").write_text(json.dumps(content | {"annotations": alone}))
    [sample] = label_format("coco").read(tmp_path / "img", tmp_path / "a.json", None, Report())
    assert len(sample.instances) == 1
    (tmp_path / "a.json").write_text(json.dumps(content | {"annotations": both}))
    with pytest.raises(UserError, match=r"category receipt outlines whole pages.*data.categories=\[text\]"):
        list(label_format("coco").read(tmp_path / "img", tmp_path / "a.json", None, Report()))


def test_shapes_that_cannot_be_read_count_with_the_image_and_the_category_that_they_are_of(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg", 400, 300)
    write_image(tmp_path / "img/b.jpg", 400, 300)
    names = [{"id": 1, "name": "text"}, {"id": 2, "name": "logo"}]
    images = [{"id": k, "file_name": f"{name}.jpg", "width": 400, "height": 300} for k, name in enumerate("ab", 1)]
    items = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 10]}, {"image_id": 1, "category_id": 1},
             *({"image_id": 1, "category_id": 2} for _ in range(3)), {"image_id": 2, "category_id": 1}]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "categories": names, "annotations": items}))
    for categories, entries in ((None, 5), (["text"], 2)):
        report = Report()
        [sample] = label_format("coco").read(tmp_path / "img", tmp_path / "a.json", ["a"], report, categories)
        assert (len(sample.instances), sample.entries) == (1, entries)
        assert report.counts["unparsable_line"] == entries - 1, "those of b.jpg are not asked for"
