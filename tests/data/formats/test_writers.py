"""Predictions out as labels, in as labels, out again: the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ocr.data.formats import label_formats
from ocr.data.formats.writers import writable, write_formats
from ocr.data.index.check import Header, in_shown_pixels
from ocr.data.index.report import Report
from ocr.data.sources.build import build_sources
from ocr.errors import UserError
from ocr.training.callbacks.predictions import prediction_line
from ocr.types import Detections
from tests.conftest import write_image


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Quads and outlines in three images of two folders, one without text, a name with a comma and a blank."""
    rng = np.random.default_rng(0)
    lines = []
    for name, count in (("a/one.png", 5), ("b/two, too.png", 3), ("b/none.png", 0)):
        path = write_image(tmp_path / "pictures" / name, 400, 300)
        polygons = []
        for k in range(count):
            x, y = rng.uniform(10, 200), 20.0 + 40 * k
            quad = [[x, y], [x + 90.123, y + 1.5], [x + 90, y + 21.37], [x + 0.01, y + 20]]
            outline = [[x, y], [x + 40, y - 3], [x + 90, y], [x + 90, y + 20], [x + 40, y + 17.77], [x, y + 20]]
            polygons.append(np.array(quad if k % 2 == 0 else outline, np.float32))
        lines.append(prediction_line(str(path), (400, 300), Detections(polygons, rng.random(count))))
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(line + "\n" for line in lines))
    return file


@pytest.mark.parametrize("name", list(writable()))
def test_read_and_written_again_it_is_the_same_file(name: str, predictions: Path, tmp_path: Path):
    images, out = tmp_path / "pictures", tmp_path / "out"
    out.mkdir()
    file = write_formats(predictions, [name], out)[name]
    if name == "label_studio":  # predictions are no labels before somebody has accepted them
        assert not list(label_formats()[name].read(images, file, None, Report()))
        file.write_text(file.read_text().replace('"annotations": [], "predictions"', '"annotations"'))
    report = Report()
    by_image = {s.image: s for s in label_formats()[name].read(images, file, None, report)}
    assert not report.counts, report.counts
    lines = [json.loads(line) for line in predictions.read_text().splitlines()]
    samples = [by_image.pop(Path(line["image"])) for line in lines]
    samples = [shown for s in samples if (shown := in_shown_pixels(s, Header((400, 300), 1), report)) is not None]
    assert not by_image
    again = []
    for sample, line in zip(samples, lines):
        found = Detections([i.polygon for i in sample.instances], np.array(line["scores"]))
        assert not any(i.ignore for i in sample.instances)
        again.append(prediction_line(str(sample.image), (400, 300), found))
    second = tmp_path / "again.jsonl"
    second.write_text("".join(line + "\n" for line in again))
    assert second.read_text() == predictions.read_text()
    (tmp_path / "twice").mkdir()
    written = write_formats(second, [name], tmp_path / "twice")[name]
    if name == "label_studio":
        written.write_text(written.read_text().replace('"annotations": [], "predictions"', '"annotations"'))
    files = [p.relative_to(file) for p in file.rglob("*") if p.is_file()] if file.is_dir() else [Path()]
    assert len(files) in (1, 3)
    for path in files:
        assert (written / path).read_bytes() == (file / path).read_bytes()


def test_written_labels_can_be_trained_on(predictions: Path, tmp_path: Path):
    write_formats(predictions, ["coco"], tmp_path)
    spec = {"format": "coco", "images": "pictures", "annotations": "coco.json"}
    [source], report = build_sources([spec], str(tmp_path), "train", strict=True)
    assert len(source) == 3 and source.counts()["instances"] == 8 and not report.counts
    boxes = json.loads((tmp_path / "coco.json").read_text())["annotations"]
    assert all(len(b["bbox"]) == 4 and b["area"] > 0 and 0 <= b["score"] <= 1 for b in boxes)


def test_unknown_format_and_broken_csv(predictions: Path, tmp_path: Path):
    with pytest.raises(UserError, match="'yola'; known: "):
        write_formats(predictions, ["yola"], tmp_path)
    broken = tmp_path / "broken.csv"
    broken.write_text("image,boxes\n")
    with pytest.raises(UserError, match="expected the header filename,polygons"):
        list(label_formats()["competition_csv"].read(tmp_path / "pictures", broken, None, Report()))
    broken.write_text("filename,polygons\na/one.png,1 2 3 x|1 2 3 4 5 6\na/one.png,1,2\n")
    report = Report()
    [sample] = list(label_formats()["competition_csv"].read(tmp_path / "pictures", broken, None, report))
    assert len(sample.instances) == 1 and report.counts["unparsable_line"] == 2
