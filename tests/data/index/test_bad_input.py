"""A test for every kind of bad input: it is counted, named with file and line, and the sound rest is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ocr.data.datasets import EvalSet, TrainSet
from ocr.data.sources.build import build_sources
from ocr.data.targets.maps import TargetMaker
from ocr.data.transforms.decode import decode
from ocr.data.transforms.random import RandomGeometry, RandomLight
from ocr.errors import UserError
from tests.conftest import quad, write_image

SPEC = {"format": "icdar", "images": "img", "annotations": "gt"}


def line(points: list[list[float]], text: str = "text") -> str:
    return ",".join(f"{v}" for p in points for v in p) + f",{text}"


def make_set(folder: Path, lines: list[str], name: str = "bad") -> Path:
    """Two images: ``good`` with one sound label, ``bad`` with the given lines."""
    (folder / "gt").mkdir(parents=True, exist_ok=True)
    for stem, content in (("good", [line(quad(10, 10))]), (name, lines)):
        write_image(folder / f"img/{stem}.jpg")
        (folder / f"gt/gt_{stem}.txt").write_text("\n".join(content) + "\n")
    return folder


def load(folder: Path, strict: bool = False, spec: dict = SPEC):
    [source], report = build_sources([spec], str(folder), "train", strict)
    return source, report


BAD_LINES = {
    "unparsable_line": "10,10,50,ten,50,22,10,22,text",
    "not_finite": "10,10,nan,10,50,22,10,22,text",
    "zero_area": "10,10,50,10,50,10,10,10,text",
    "outside_image": line(quad(500, 500)),
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_bad_line_is_counted_and_the_rest_kept(kind: str, tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5)), BAD_LINES[kind], line(quad(5, 50))])
    source, report = load(tmp_path)
    assert report.counts == {kind: 1}
    assert "gt_bad.txt:2" in report.examples[kind][0]
    assert source.counts() == {"images": 2, "instances": 3, "ignored": 0}
    with pytest.raises(UserError, match=rf"gt_bad\.txt:2.*{kind}"):
        load(tmp_path, strict=True)


@pytest.mark.parametrize("bad", ["10,10,50", "", ",,,,,,,,", "text only", "1:2:3:4:5:6:7:8:x"])
def test_lines_that_are_no_quads(bad: str, tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5)), bad])
    _, report = load(tmp_path)
    assert report.counts.get("unparsable_line", 0) == (1 if bad else 0)


def test_infinite_coordinate(tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5)), "inf,10,50,10,50,22,10,22,text"])
    assert load(tmp_path)[1].counts == {"not_finite": 1}


def test_polygon_with_fewer_than_three_points(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    entries = [{"transcription": "x", "points": quad(5, 5)}, {"transcription": "y", "points": [[1, 1], [9, 9]]}]
    (tmp_path / "label.txt").write_text(f"a.jpg\t{json.dumps(entries)}\n")
    source, report = load(tmp_path, spec={"format": "paddle", "images": "img", "annotations": "label.txt"})
    assert report.counts == {"too_few_points": 1}
    assert "label.txt:1" in report.examples["too_few_points"][0]
    assert source.counts()["instances"] == 1


def test_crossing_quad_is_untangled(tmp_path: Path):
    a, b, c, d = quad(20, 20)
    make_set(tmp_path, [line([a, c, b, d])])
    source, report = load(tmp_path)
    assert report.counts == {"self_crossing": 1}
    truth = source.index.truth(0)
    np.testing.assert_array_equal(truth.polygons[0], quad(20, 20))
    assert not truth.ignore[0]


def test_crossing_outline_becomes_an_ignored_region(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    star = [[20, 20], [60, 40], [20, 40], [60, 20], [40, 60]]
    entries = [{"transcription": "x", "points": quad(80, 5)}, {"transcription": "y", "points": star}]
    (tmp_path / "label.txt").write_text(f"a.jpg\t{json.dumps(entries)}\n")
    source, report = load(tmp_path, spec={"format": "paddle", "images": "img", "annotations": "label.txt"})
    assert report.counts == {"self_crossing": 1}
    assert source.index.truth(0).ignore.tolist() == [False, True]


def test_polygon_partly_outside_is_clipped_and_no_problem(tmp_path: Path):
    make_set(tmp_path, [line(quad(-10, 20))])
    source, report = load(tmp_path, strict=True)
    assert report.counts == {"partly_outside": 1} and report.problems == 0
    np.testing.assert_array_equal(source.index.truth(0).polygons[0], quad(0, 20, w=30))


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\xff\xd8\xff\xe0" + b"\0" * 40])
def test_unreadable_image(content: bytes, tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5))])
    (tmp_path / "img/bad.jpg").write_bytes(content)
    source, report = load(tmp_path)
    assert report.counts == {"unreadable_image": 1}
    assert "bad.jpg" in report.examples["unreadable_image"][0]
    assert len(source) == 1
    with pytest.raises(UserError, match="bad.jpg"):
        load(tmp_path, strict=True)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_truncated_image(suffix: str, tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5))])
    (tmp_path / "img/bad.jpg").unlink()
    path = write_image(tmp_path / f"img/bad{suffix}", 640, 480)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source, report = load(tmp_path)
    assert report.counts == {"truncated_image": 1}
    assert len(source) == 1


def test_label_without_image_and_image_without_label(tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5))])
    (tmp_path / "gt/gt_lonely.txt").write_text(line(quad(5, 5)))
    write_image(tmp_path / "img/unlabelled.jpg")
    source, report = load(tmp_path)
    assert report.counts == {"label_without_image": 1, "image_without_label": 1}
    assert "gt_lonely.txt" in report.examples["label_without_image"][0]
    assert "unlabelled.jpg" in report.examples["image_without_label"][0]
    assert len(source) == 2


@pytest.mark.parametrize("name", ["paddle", "doctr", "coco", "competition"])
def test_label_without_image_in_one_file_formats(name: str, tmp_path: Path):
    from ocr.types import Instance, Sample
    from tests.conftest import write_format

    samples = [Sample(write_image(tmp_path / f"img/{n}.jpg"), [Instance(np.float32(quad(5, 5)), "t")]) for n in "ab"]
    images, labels = write_format(name, samples, tmp_path)
    samples[1].image.rename(tmp_path / "img/c.jpg")
    _, report = load(tmp_path, spec={"format": name, "images": str(images), "annotations": str(labels)})
    assert report.counts == {"label_without_image": 1, "image_without_label": 1}


@pytest.mark.parametrize("name", ["doctr", "coco", "competition"])
def test_json_that_is_cut_off_names_file_and_line(name: str, tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    (tmp_path / "labels.json").write_text('{"images": {\n"a.jpg": {"words"')
    with pytest.raises(UserError, match=r"labels\.json:2: not valid JSON"):
        load(tmp_path, spec={"format": name, "images": "img", "annotations": "labels.json"})


def test_paddle_line_that_does_not_parse(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg")
    sound = json.dumps([{"transcription": "x", "points": quad(5, 5)}])
    (tmp_path / "label.txt").write_text(f"a.jpg {sound}\na.jpg\t{sound}\n")
    source, report = load(tmp_path, spec={"format": "paddle", "images": "img", "annotations": "label.txt"})
    assert report.counts == {"unparsable_line": 1}
    assert "label.txt:1" in report.examples["unparsable_line"][0]
    assert len(source) == 1


def test_image_whose_labels_are_all_unsound_is_not_taught_as_background(tmp_path: Path):
    make_set(tmp_path, ["garbage", "more garbage"])
    source, report = load(tmp_path)
    assert report.counts == {"unparsable_line": 2, "no_sound_label": 1}
    assert len(source) == 1


def test_image_with_an_empty_label_file_has_no_text(tmp_path: Path):
    make_set(tmp_path, [])
    source, report = load(tmp_path)
    assert not report.counts and len(source) == 2


def test_empty_folder(tmp_path: Path):
    (tmp_path / "img").mkdir()
    (tmp_path / "gt").mkdir()
    with pytest.raises(UserError, match="no images in"):
        load(tmp_path)


def test_all_instances_ignored(tmp_path: Path):
    make_set(tmp_path, [line(quad(5, 5), "###")])
    (tmp_path / "gt/gt_good.txt").write_text(line(quad(5, 5), "###"))
    with pytest.raises(UserError, match="all 2 labelled instances of 2 image"):
        load(tmp_path)


def test_nothing_sound_left_says_why(tmp_path: Path):
    make_set(tmp_path, ["garbage"])
    (tmp_path / "gt/gt_good.txt").write_text("garbage")
    with pytest.raises(UserError, match="no usable image.*unparsable_line x 2, e.g. .*gt_bad.txt:1"):
        load(tmp_path)


def test_exif_orientation_turns_image_and_labels_together(tmp_path: Path):
    from PIL import Image

    make_set(tmp_path, [line(quad(60, 150))])  # inside 100 x 200 only when turned
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "img/bad.jpg") as image:
        image.save(tmp_path / "img/bad.jpg", exif=exif)
    source, report = load(tmp_path)
    assert not report.counts
    assert source.index.sizes[0].tolist() == [100, 200]
    assert decode(source.index.path(0)).shape == (200, 100, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_all_modes_decode_to_rgb(mode: str, tmp_path: Path):
    from PIL import Image

    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (60, 40), (200, 30, 30)).convert(mode).save(path)
    assert decode(path).shape == (40, 60, 3)


def broken_after_the_check(folder: Path):
    """A source one of whose images goes bad after it was indexed."""
    source, _ = load(make_set(folder, [line(quad(5, 5))]))
    (folder / "img/bad.jpg").write_bytes(b"gone")
    return source


def test_undecodable_image_in_training_is_replaced_with_a_warning(tmp_path: Path, pipeline, caplog):
    source = broken_after_the_check(tmp_path)
    parts = (
        RandomGeometry((64, 64), (1, 1), (1, 1), 0, 1), RandomLight(0, 0, 0, 0, 0, 0), TargetMaker(0.4, 3),
    )  # fmt: skip
    assert TrainSet([source], pipeline, *parts)[(0, 1)]["image"].shape == (64, 64, 3)
    assert "bad.jpg" in caplog.text
    with pytest.raises(UserError, match="bad.jpg"):
        TrainSet([source], pipeline, *parts, strict=True)[(0, 1)]


def test_undecodable_image_in_evaluation_is_left_out_with_a_warning(tmp_path: Path, pipeline, caplog):
    source = broken_after_the_check(tmp_path)
    assert EvalSet([source], pipeline)[0] is None
    assert "bad.jpg" in caplog.text
    with pytest.raises(UserError, match="bad.jpg"):
        EvalSet([source], pipeline, strict=True)[0]
