"""The bundled detectors."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.metrics.hmean import Hmean
from ocr.metrics.protocol import evaluate
from ocr.models.onnx.nodes import read_metadata
from ocr.models.pretrained.ppocr import pretrained_detector, weights_file
from ocr.training.data_record import read_record
from ocr.training.loading import load_module
from tests.conftest import ROOT, found_by

BYTES = {"receipts": 10_000_000, "receipts-small": 3_000_000}


@pytest.mark.parametrize("name", BYTES)
def test_it_is_small_and_says_nothing_of_the_machine_that_made_it(name: str):
    path = weights_file(name)
    assert path.stat().st_size <= BYTES[name]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in path.with_name("README.md").read_text(encoding="utf-8"), "the model card is of another file"
    classifier = hashlib.sha256(path.with_name("text_direction.onnx").read_bytes()).hexdigest()
    assert classifier in path.with_name("README.md").read_text(encoding="utf-8")
    record = read_record(path)
    assert record is not None and record.config == record.without_paths().config and record.config["root"] is None
    assert len(record.seen["train"]) > 450 and len(record.seen["val"]) == 291
    assert set(json.loads(read_metadata(path)["pipeline"])) >= {"resize", "postprocess", "mean", "std"}


@pytest.mark.parametrize("name", BYTES)
def test_it_reads_photos_of_receipts_that_it_has_not_seen(name: str):
    source = SyntheticReceipts(4, 77, 0.8, style="shop", effects={"curl": 1.0, "clutter": 1.0, "shadow": 1.0})
    module = load_module(weights_file(name))
    samples = [source.load(i) for i in range(len(source))]
    detections = [found_by(module, image) for image, _ in samples]
    assert evaluate(Hmean(), detections, [truth for _, truth in samples])["hmean"] > 0.85


def test_it_is_a_start_for_training():
    network = pretrained_detector("receipts-small")
    assert sum(p.numel() for p in network.parameters()) > 1_000_000


@pytest.mark.slow
def test_one_command_from_a_picture_to_boxes_in_any_folder(tmp_path: Path):
    picture = next((ROOT / "tests/fixtures/sroie/img").glob("*.jpg"))
    command = [sys.executable, str(ROOT / "runners/predict.py"), f"source='{picture}'"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    [line] = (tmp_path / "predictions/predictions.jsonl").read_text().splitlines()
    assert len(json.loads(line)["polygons"]) > 5
