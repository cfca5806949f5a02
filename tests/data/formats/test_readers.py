"""Every reader on real receipts, written out in its format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ocr.data.formats import label_format, label_formats
from ocr.data.index.check import check_instances, in_shown_pixels, read_header
from ocr.data.index.report import Report
from ocr.data.sources.build import build_source, build_sources
from ocr.errors import UserError
from tests.conftest import FIXTURES, quad, write_format, write_image


def read(name: str, images: Path, annotations: Path, ids=None):
    report = Report()
    return list(label_format(name).read(images, annotations, ids, report)), report


def real_samples():
    return read("sroie", FIXTURES / "sroie/img", FIXTURES / "sroie/box")[0]


def test_sroie_reads_real_receipts():
    samples, report = read("sroie", FIXTURES / "sroie/img", FIXTURES / "sroie/box")
    assert [s.image.name for s in samples] == ["019.jpg", "284.jpg"]
    lines = (FIXTURES / "sroie/box/019.csv").read_text().splitlines()
    assert len(samples[0].instances) == len([line for line in lines if line.strip()])
    first = lines[0].split(",", 8)
    assert samples[0].instances[0].text == first[8]
    assert samples[0].instances[0].polygon.ravel().tolist() == [float(v) for v in first[:8]]
    assert not report.counts


def test_icdar_reads_byte_order_mark_and_ignore():
    samples, report = read("icdar", FIXTURES / "icdar2015/img", FIXTURES / "icdar2015/gt")
    by_name = {s.image.stem: s for s in samples}
    assert (FIXTURES / "icdar2015/gt/gt_img_16.txt").read_bytes().startswith(b"\xef\xbb\xbf")
    assert len(by_name["img_16"].instances) == 17
    assert sum(i.ignore for i in by_name["img_16"].instances) == 14
    assert not report.counts


@pytest.mark.parametrize("name", sorted(label_formats()))
def test_every_format_carries_the_same_labels(name: str, tmp_path: Path):
    original = real_samples()
    original[0].instances[3].ignore = name not in ("doctr", "sroie", "competition_csv", "yolo")  # these have no mark
    samples, report = read(name, *write_format(name, original, tmp_path))
    assert not report.counts
    samples = [shown for s in samples if (shown := in_shown_pixels(s, read_header(s.image), report)) is not None]
    assert [s.image for s in samples] == [s.image for s in original]
    for got, wanted in zip(samples, original, strict=True):
        assert len(got.instances) == len(wanted.instances)
        for a, b in zip(got.instances, wanted.instances, strict=True):
            np.testing.assert_allclose(a.polygon, b.polygon, atol=1e-3 if name in ("label_studio", "yolo") else 0)
            assert a.ignore == b.ignore
            if name not in ("doctr", "competition_csv", "yolo") and not b.ignore:
                assert a.text == b.text


@pytest.mark.parametrize("name", sorted(label_formats()))
def test_every_format_takes_an_id_list(name: str, tmp_path: Path):
    samples, report = read(name, *write_format(name, real_samples(), tmp_path), ids=["284"])
    assert [s.image.stem for s in samples] == ["284"]
    assert not report.counts


@pytest.mark.parametrize("name", ["paddle", "coco", "competition", "competition_csv", "doctr"])
def test_polygons_of_any_number_of_points(name: str, tmp_path: Path):
    outline = np.array([[20, 10], [60, 8], [100, 12], [98, 30], [60, 28], [22, 30]], np.float32)
    original = real_samples()[:1]
    original[0].instances = original[0].instances[:1]
    original[0].instances[0].polygon = outline[::-1]
    samples, _ = read(name, *write_format(name, original, tmp_path), ids=["019"])
    [instance] = check_instances(samples[0], *read_header(samples[0].image).size, Report())
    np.testing.assert_array_equal(instance.polygon, outline)


def test_coco_takes_boxes_and_splits_multiple_polygons(tmp_path: Path):
    image = write_image(tmp_path / "img/a.jpg")
    labels = tmp_path / "coco.json"
    parts = [np.ravel(quad(10, 10)).tolist(), np.ravel(quad(80, 10)).tolist()]
    annotations = [{"image_id": 7, "bbox": [5, 40, 30, 10]}, {"image_id": 7, "segmentation": parts}]
    labels.write_text(json.dumps({"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": annotations}))
    [sample], _ = read("coco", image.parent, labels)
    assert [i.polygon.tolist() for i in sample.instances] == [quad(5, 40, 30, 10), quad(10, 10), quad(80, 10)]


def test_doctr_takes_polygons_by_class(tmp_path: Path):
    image = write_image(tmp_path / "img/a.jpg")
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"a.jpg": {"polygons": {"words": [quad(10, 10)], "lines": [quad(50, 50)]}}}))
    [sample], _ = read("doctr", image.parent, labels)
    assert len(sample.instances) == 2


def test_sources_mix_formats_and_share_out(tmp_path: Path):
    images, labels = write_format("paddle", real_samples(), tmp_path)
    specs = [
        {"format": "sroie", "images": str(FIXTURES / "sroie/img"), "annotations": str(FIXTURES / "sroie/box")},
        {"format": "paddle", "images": str(images), "annotations": str(labels), "weight": 0.5},
        {"format": "synthetic", "count": 3, "seed": 1},
    ]
    sources, _ = build_sources(specs, None, "train", strict=True)
    assert [len(s) for s in sources] == [2, 2, 3]
    assert sources[1].weight == 0.5


def test_share_splits_a_set_in_two_without_overlap():
    spec = {"format": "sroie", "images": "sroie/img", "annotations": "sroie/box"}
    names = []
    for share in ([0.0, 0.5], [0.5, 1.0]):
        source = build_source({**spec, "hash_range": share}, FIXTURES, Report())
        names += [source.name(i) for i in range(len(source))]
    assert len(names) == len(set(names)) == 2


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"format": "xml", "images": "a", "annotations": "b"}, "unknown label format 'xml'"),
        ({"format": "sroie", "images": "a"}, "annotations is missing"),
        ({"format": "sroie", "images": "a", "annotations": "b", "imgs": "c"}, "unknown: imgs"),
        ({"format": "sroie", "images": "nowhere", "annotations": "sroie/box"}, "image folder not found"),
        ({"format": "sroie", "images": "sroie/img", "annotations": "nowhere"}, "label folder not found"),
        ({"format": "paddle", "images": "sroie/img", "annotations": "nowhere.txt"}, "cannot read"),
        ({"format": "sroie", "images": "sroie/img", "annotations": "sroie/box", "ids": "no.txt"}, "cannot read"),
        ({"format": "synthetic", "count": 0, "seed": 1}, "count of at least 1"),
        ({"format": "synthetic", "number": 3}, "number"),
    ],
)
def test_wrong_source_settings_say_what_is_wrong(spec: dict, message: str):
    with pytest.raises(UserError, match=message):
        build_source(spec, FIXTURES, Report())
