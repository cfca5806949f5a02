"""The one command for a user's own receipts, small, and what its checkpoint can do."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ocr.jobs.make_data import write_icdar
from ocr.metrics.matching import pair
from tests.tiny import OFF, run, run_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, stock_weights: Path) -> tuple[Path, Path]:
    """The receipts and the run folder."""
    cwd = tmp_path_factory.mktemp("finetune")
    images = write_icdar(cwd / "my receipts", 6, 0, 0.3) / "images"
    names = sorted(path.stem for path in images.iterdir())
    (images.parent / "train.txt").write_text("\n".join(names[:4]))
    (images.parent / "val.txt").write_text("\n".join(names[4:]))
    small = ["data.epoch_samples=8", "data.batch_size=4", "data.geometry.crop_size=[160,160]", "data.num_workers=0",
             "model.pipeline.resize.long_side=320", "trainer.max_epochs=1", "trainer=cpu",
             "tuning.thresh=[0.3]", "tuning.unclip={exact:[0.6]}", "tuning.box_thresh=[0.3,0.5]",
             "tuning.min_size=[3]"]  # fmt: skip
    write_icdar(cwd / "street", 3, 1, 0.9)
    mix = ["mix=folder", f'data.mix_root="{cwd / "street"}"']
    done = run("train", "experiment=finetune", f'data.root="{images.parent}"', *mix, *small, OFF, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert "train: found icdar labels in labels, images in images (those in train.txt)" in done.stderr
    assert "mix: 2007 images" in done.stderr, "2000 drawn ones, four of its own photographed, three of the street"
    return images, run_folder(cwd, "finetune_folder")


def test_it_trains_on_ones_own_receipts_and_on_others_and_tunes(tuned: tuple[Path, Path]):
    _, folder = tuned
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val/hmean"] == pytest.approx(metrics["tune/tuned_hmean"], abs=2e-3)
    assert (metrics["headline"], metrics["selected_on"]) == ("tune/held_out_hmean", "val"), "it has no test part"
    assert metrics["tune/tuned_objective"] >= metrics["tune/before_objective"]
    assert 0 < metrics["start/hmean"] <= 1 and metrics["best_epoch"] in (-1, 0)
    kept = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]["pipeline"]
    best = json.loads((folder / "tuning.json").read_text())["best"]
    assert kept["postprocess"]["box_thresh"] == best["box_thresh"]


def test_a_training_that_does_harm_keeps_its_start(tuned: tuple[Path, Path], tmp_path: Path):
    images, tuned_folder = tuned
    arguments = ["experiment=finetune", f'data.root="{images.parent}"', "model=ppocr_v4", "model.compile=false",
                 "optimizer.lr=0.3", "mix=none", "trainer.max_epochs=2", "trainer=cpu", "tune=false",
                 "data.epoch_samples=8", "data.batch_size=4", "data.geometry.crop_size=[96,96]", "data.num_workers=0",
                 "model.pipeline.resize.long_side=640", "callbacks.ema=null", "name=harm", OFF]  # fmt: skip
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path, "harm")
    metrics = json.loads((folder / "metrics.json").read_text())
    with (folder / "csv/metrics.csv").open() as file:
        first, *epochs, last = [float(row["val/hmean"]) for row in csv.DictReader(file) if row["val/hmean"]]
    assert len(epochs) == 2 and max(epochs) < first == last == metrics["start/hmean"] == metrics["val/hmean"]
    assert metrics["best_epoch"] == -1
    assert f"no epoch is better than the initial weights (val/hmean {first:.4f}), which best.ckpt holds" in done.stderr
    assert "no epoch was better on these images than the initial weights, which were kept" in done.stdout
    kept = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    assert kept["global_step"] == 0
    done = run("test", f"ckpt_path={folder}", "split=val", "trainer=cpu", "name=again", OFF, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = json.loads((run_folder(tmp_path, "again") / "metrics.json").read_text())
    assert again["val/hmean"] == pytest.approx(first)

    more = run("train", *arguments, f"resume={folder}", "trainer.max_epochs=3", cwd=tmp_path)
    assert more.returncode == 0, more.stderr
    assert "no epoch is better than the initial weights" in more.stderr, "nor does a resumed training take its first"

    unseen = run("train", *arguments, "trainer.check_val_every_n_epoch=5", "name=blind", cwd=tmp_path)
    assert unseen.returncode == 0, unseen.stderr
    assert "no validation was run" in unseen.stdout and "no epoch is better" not in unseen.stderr
    assert not (run_folder(tmp_path, "blind") / "checkpoints/best.ckpt").exists()

    own = [f'model.weights="{tuned_folder}/checkpoints/best.ckpt"', "trainer.max_epochs=1", "name=own",
           "data.val=[{format:icdar,images:images,annotations:labels,ids:train.txt}]"]  # fmt: skip
    again = run("train", *arguments, *own, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "has learned from 4 of 4 validation image(s): it is not measured on them" in again.stderr
    assert "start/hmean" not in json.loads((run_folder(tmp_path, "own") / "metrics.json").read_text())


def predictions(folder: Path) -> dict[str, list[np.ndarray]]:
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return {line["image"]: [np.array(p) for p in line["polygons"]] for line in lines}


def test_batches_change_nothing_and_tiles_little(tuned: tuple[Path, Path], tmp_path: Path):
    images, folder = tuned
    found = {}
    for name, more in (("one", []), ("batch", ["batch_size=4"]), ("tiles", ["tta.tile=448"])):
        done = run("predict", f'ckpt_path="{folder}"', f'source="{images}"', f"output={tmp_path}/{name}",
                   "accelerator=cpu", "num_workers=0", "resize.long_side=640", *more, cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[name] = predictions(tmp_path / name)
    assert list(found["one"]) == list(found["batch"]) == sorted(str(path) for path in images.iterdir())
    texts = same = 0
    for name, polygons in found["one"].items():
        assert len(found["batch"][name]) == len(polygons) > 3
        for a, b in zip(polygons, found["batch"][name]):
            np.testing.assert_allclose(a, b, atol=0.05)
        texts += len(polygons)
        same += int((pair(polygons, found["tiles"][name]).iou > 0.8).sum())
    assert same > 0.85 * texts, f"{same} of {texts}"
