"""What the runners measure with a checkpoint that has learned something: figures above a half, then equal ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ocr.data.formats import label_formats
from ocr.data.formats.writers import writable
from ocr.data.index.report import Report
from ocr.jobs.make_data import write_icdar
from ocr.metrics.matching import pair
from ocr.types import RELATIVE
from tests.tiny import OFF, run, run_folder

pytestmark = pytest.mark.slow

DATA = ["data.num_workers=0"]  # all else is what the checkpoint was trained with


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def predictions_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def scored(checkpoint: Path, cwd: Path, name: str, *more: str) -> tuple[dict[str, float], Path]:
    """Metrics and run folder of a test of a checkpoint on the receipts that its training was tested on."""
    done = run("test", f"ckpt_path={checkpoint}", "trainer=cpu", *DATA, OFF, f"name={name}", *more, cwd=cwd)
    assert done.returncode == 0, done.stderr
    folder = run_folder(cwd, name)
    return metrics_of(folder), folder


def learned_hmean(learned: Path) -> float:
    hmean = metrics_of(learned)["test/hmean"]
    assert hmean > 0.5
    return hmean


def test_testing_a_checkpoint_repeats_the_figures_of_training(learned: Path, tmp_path: Path):
    assert learned_hmean(learned) > 0.5
    metrics, folder = scored(learned / "checkpoints/best.ckpt", tmp_path, "again", "overlays=2")
    for name in ("hmean", "precision", "recall", "deteval_hmean", "cleval_hmean", "mean_iou"):
        assert metrics[f"test/{name}"] == metrics_of(learned)[f"test/{name}"] > 0.5, name
    assert predictions_of(folder) == predictions_of(learned)
    assert len(list((folder / "overlays").glob("*.jpg"))) == 2


def test_a_breakdown_says_where_the_figures_come_from(learned: Path, tmp_path: Path):
    """All texts and all detections of the run stand in each of its tables, so that none is about something else."""
    hmean = learned_hmean(learned)
    breakdown = json.loads((learned / "test_breakdown.json").read_text())
    texts = sum(len(line["polygons"]) for line in predictions_of(learned))
    assert sum(row["texts"] for row in breakdown["height"]) == sum(row["texts"] for row in breakdown["aspect"]) == 235
    assert texts > 100 and breakdown["curve"][0]["hmean"] == pytest.approx(hmean, abs=1e-6)
    assert (learned / "test_breakdown.png").is_file()


def test_postprocessing_of_a_checkpoint_can_be_overridden(learned: Path, tmp_path: Path):
    hmean = learned_hmean(learned)
    strict = ["postprocess.box_thresh=0.999", "postprocess.thresh=0.99"]
    done = run("test", f"ckpt_path={learned}", "trainer=cpu", *DATA, OFF, "name=strict", *strict, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no text was found in any of 4 image(s)" in done.stderr
    assert metrics_of(run_folder(tmp_path, "strict"))["test/recall"] == 0
    wide, _ = scored(learned, tmp_path, "wide", "postprocess.unclip=ratio", "postprocess.unclip_ratio=4")
    assert 0 <= wide["test/mean_iou"] < metrics_of(learned)["test/mean_iou"] - 0.02 or wide["test/hmean"] < hmean - 0.1
    small, _ = scored(learned, tmp_path, "small", "resize.long_side=160")
    assert small["test/hmean"] < hmean - 0.1, "a network that sees half of the pixels"


def test_augmentation_changes_what_they_should_and_nothing_else(learned: Path, tmp_path: Path):
    hmean, plain = learned_hmean(learned), predictions_of(learned)
    whole, folder = scored(learned, tmp_path, "tile", "tta.tile=4096")
    assert whole["test/hmean"] == hmean and predictions_of(folder) == plain, "one tile is the image"
    tiles, folder = scored(learned, tmp_path, "tiles", "views.tile=192", "views.overlap=96")  # the former name
    assert tiles["test/hmean"] > 0.5 and predictions_of(folder) != plain
    most, folder = scored(learned, tmp_path, "rotations", "tta.rotations=[180]", "tta.merge=max")
    found, before = (sum(len(line["polygons"]) for line in lines) for lines in (predictions_of(folder), plain))
    assert most["test/recall"] > 0 and found != before
    done = run("test", f"ckpt_path={learned}", "trainer=cpu", *DATA, OFF, "tta.rotations=[45]", cwd=tmp_path)
    assert done.returncode == 2 and "tta.rotations knows 90, 180 and 270" in done.stderr


def test_a_resumed_run_keeps_the_best_score_of_the_stopped_one(learned: Path, tmp_path: Path):
    """Its new epoch is scored on receipts that it has not seen and reads worse."""
    best = metrics_of(learned)["val/hmean"]
    assert best > 0.5
    hard = "data.val=[{format:camera,of:[{format:synthetic,count:2,seed:5,difficulty:1}],difficulty:1}]"
    more = [f"resume='{learned}'", "trainer.max_epochs=6", "test=false", "name=more", "data.epoch_samples=8", hard]
    done = run("train", *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path, "more")
    with (folder / "csv/metrics.csv").open() as file:
        scores = [float(row["val/hmean"]) for row in csv.DictReader(file) if row.get("val/hmean")]
    assert len(scores) == 1 and scores[0] < best - 0.1
    assert metrics_of(folder)["val/hmean"] == best
    stopped, resumed = ((place / "checkpoints/best.ckpt").read_bytes() for place in (learned, folder))
    assert stopped == resumed, "score and weights"
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 5


def test_a_tuned_checkpoint_its_export_and_their_tests_agree(learned: Path, tmp_path: Path):
    """From a checkpoint to another stack: each step reads what the one before it wrote."""
    hmean = metrics_of(learned)["val/hmean"]
    grid = ["tuning.thresh=[0.2,0.3]", "tuning.box_thresh=[0.3,0.5]", "tuning.min_size=[2]",
            "tuning.unclip={exact:[0.3,0.4]}", "tuning.folds=2"]  # fmt: skip
    done = run("tune", f"ckpt_path={learned}", "trainer=cpu", *DATA, *grid, OFF, "name=tune", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path, "tune")
    tuned, metrics = folder / "checkpoints/tuned.ckpt", metrics_of(folder)
    assert {p.name for p in folder.iterdir()} >= {"tuning.csv", "tuning.json", "tuning.png", "metrics.json"}
    assert metrics["tune/tuned_objective"] >= metrics["tune/before_objective"] > 0.5
    # maps are kept in 12 bits: one of some 150 texts may fall on the other side of a threshold
    assert metrics["tune/before_hmean"] == pytest.approx(hmean, abs=5e-3)
    best = json.loads((folder / "tuning.json").read_text())["best"]
    kept = torch.load(tuned, weights_only=True)["hyper_parameters"]["pipeline"]["postprocess"]
    assert all(kept[name] == best[name] for name in ("thresh", "box_thresh", "unclip", "unclip_ratio", "min_size"))

    file = tmp_path / "out/model.onnx"
    done = run("export", f"ckpt_path={tuned}", f"output={file}", *DATA, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert file.is_file() and file.with_suffix(".rapidocr.yaml").is_file()
    one, _ = scored(tuned, tmp_path, "checkpoint")
    other, _ = scored(file, tmp_path, "file")
    for name in ("hmean", "precision", "deteval_hmean", "cleval_hmean", "mean_iou"):
        assert one[f"test/{name}"] > 0.5 and one[f"test/{name}"] == pytest.approx(other[f"test/{name}"], abs=1e-6), name
    assert metrics["val/hmean"] == pytest.approx(metrics["tune/tuned_hmean"], abs=2e-3)

    done = run("export", f"ckpt_path={file}", "output=again.onnx", "precision=fp16_weights", *DATA, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "again.onnx").stat().st_size < 0.6 * file.stat().st_size, done.stderr
    done = run("export", f"ckpt_path={tuned}", "output=x.onnx", *DATA, "postprocess.thresh=0.9999", cwd=tmp_path)
    assert done.returncode == 2 and "not written" in done.stderr and not (tmp_path / "x.onnx").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_exports_cost_no_more_than_they_may(precision: str, learned: Path, tmp_path: Path):
    hmean, file, loss = learned_hmean(learned), tmp_path / "small.onnx", 0.1
    export = [f"ckpt_path={learned}", f"output={file}", f"precision={precision}", *DATA]
    done = run("export", *export, f"max_loss={loss}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    weights = torch.load(learned / "checkpoints/best.ckpt", weights_only=True)["state_dict"].values()
    plain = 4 * sum(value.numel() for value in weights)
    assert file.stat().st_size < (0.6 if precision == "int8" else 0.75) * plain
    metrics, folder = scored(file, tmp_path, "small")
    assert metrics["test/hmean"] > max(0.5, hmean - loss)
    assert predictions_of(folder) != predictions_of(learned), "it is another network"


def test_an_export_that_costs_too_much_is_not_written(learned: Path, tmp_path: Path):
    """int8 with ranges from a picture of one colour, to which everything else is out of range."""
    assert learned_hmean(learned) > 0.5
    folder, file = write_icdar(tmp_path / "set", 4, 1, 0), tmp_path / "small.onnx"
    cv2.imwrite(str(folder / "images/grey.png"), np.full((320, 224, 3), 124, np.uint8))
    (folder / "labels/gt_grey.txt").write_text("")
    data = [f"data.root='{folder}'", "data.val=[{format:icdar,images:images,annotations:labels}]", "data.num_workers=0"]
    export = [f"ckpt_path={learned}", f"output={file}", "precision=int8", *data, "calibration_images=1",
              "postprocess.box_thresh=0.7"]  # fmt: skip
    done = run("export", *export, cwd=tmp_path)
    assert done.returncode == 2 and not file.exists() and "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "not written: int8 costs" in line and "of hmean on 5 images, more than max_loss=0.01" in line
    done = run("export", *export, "max_loss=1", cwd=tmp_path)
    assert done.returncode == 0 and file.is_file(), done.stderr


def test_predictions_are_read_back_by_the_reader_of_each_format(learned: Path, tmp_path: Path):
    images = write_icdar(tmp_path / "set", 4, 1, 0) / "images"
    done = run("predict", f"ckpt_path={learned}", f"source={images}", "output=out", f"formats=[{','.join(writable())}]",
               "accelerator=cpu", "num_workers=0", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = predictions_of(tmp_path / "out")
    truth = list(label_formats()["icdar"].read(images, images.parent / "labels", None, Report()))
    assert [line["image"] for line in lines] == [str(sample.image) for sample in truth]
    matched = sum((pair(line["polygons"], [i.polygon for i in s.instances]).iou > 0.5).sum() for line, s in
                  zip(lines, truth))  # fmt: skip
    assert matched > 70, "half of the texts: formats of no polygons would be equal too"
    for name, chosen in writable().items():
        report = Report()
        labels = tmp_path / "out" / (name if chosen.per_image else str(chosen.file))
        samples = list(label_formats()[name].read(images, labels, None, report))
        if name == "label_studio":  # pre-annotations, which are no labels before someone has accepted them
            tasks = json.loads(labels.read_text())
            assert not samples and report.counts == {"image_without_label": len(lines)}
            assert [len(t["predictions"][0]["result"]) for t in tasks] == [len(line["polygons"]) for line in lines]
            continue
        assert not report.counts and [str(s.image) for s in samples] == [line["image"] for line in lines], name
        for sample, line in zip(samples, lines, strict=True):
            assert len(sample.instances) == len(line["polygons"]) > 10
            for instance, polygon in zip(sample.instances, line["polygons"]):
                size = (line["width"], line["height"]) if sample.size == RELATIVE else (1, 1)
                np.testing.assert_allclose(instance.polygon * size, np.float32(polygon), atol=2.1e-3)
    done = run("predict", f"ckpt_path={learned}", f"source={images}", "output=no", "formats=[icdar_]", cwd=tmp_path)
    assert done.returncode == 2 and "known: icdar, labelme" in done.stderr and not (tmp_path / "no").exists()
