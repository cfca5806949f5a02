"""A figure says what it was measured on: which splits there are, and which keys their figures get."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from ocr.jobs.make_data import write_icdar
from tests.tiny import OFF, TINY, inspect, run, run_folder

pytestmark = pytest.mark.slow
ON_FILES = [a for a in TINY if not a.startswith(("data.train", "data.val", "data.test"))]


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def logged(folder: Path) -> set[str]:
    with (folder / "csv/metrics.csv").open() as file:
        return set(next(csv.reader(file)))


@pytest.fixture(scope="module")
def on_a_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The working folder, the run folder and the output of a training on a folder of 12 receipts without parts."""
    cwd = tmp_path_factory.mktemp("splits")
    write_icdar(cwd / "receipts", 12, 0, 0.3)
    done = run("train", *ON_FILES, "data=folder", "data.root=receipts", "logger.private=true", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, run_folder(cwd, "folder"), done.stdout + done.stderr


def test_without_a_test_split_nothing_is_called_a_test(on_a_folder: tuple[Path, Path, str]):
    _, folder, output = on_a_folder
    metrics = metrics_of(folder)
    assert (metrics["headline"], metrics["selected_on"]) == ("val/hmean", "val")
    summary = inspect(folder)["summary"]
    for keys in (metrics, logged(folder), summary):
        assert not [key for key in keys if key.startswith("test/")]
    assert (summary["headline"], summary["selected_on"]) == ("val/hmean", "val")
    assert "receipts has 12 images, fewer than 100: split into train and val only" in output
    assert "val/hmean: the epoch was chosen on these images, for the data has no test split" in output
    assert "test/" not in output
    assert f"predictions  {folder / 'predictions.jsonl'}\n" in output, "a path that can be copied"
    assert not list(folder.glob("test_*")) and (folder / "val_breakdown.json").is_file()


def test_a_private_checkpoint_holds_no_absolute_root(on_a_folder: tuple[Path, Path, str]):
    cwd, folder, _ = on_a_folder
    best = folder / "checkpoints/best.ckpt"
    record = torch.load(best, weights_only=True)["data"]["config"]
    assert record["root"] == "receipts" and record["name"] == "folder"
    assert record["train"][0]["hash_range"] == [0.0, 0.8] and record["val"][0]["hash_range"] == [0.8, 1.0]
    assert str(cwd).encode() not in json.dumps(record).encode()
    done = run("test", OFF, f"ckpt_path={best}", "split=val", "data.num_workers=0", "trainer=cpu", cwd=cwd.parent)
    assert done.returncode == 2 and "add data.root=<folder>" in done.stderr, done.stderr


def test_testing_takes_the_checkpoints_data_and_says_what_it_has(on_a_folder: tuple[Path, Path, str]):
    cwd, folder, _ = on_a_folder
    say = [OFF, f"ckpt_path={folder}", "trainer=cpu", "data.num_workers=0"]
    done = run("test", *say, cwd=cwd)
    assert done.returncode == 2 and "has no test split: add split=val" in done.stderr and "data=<set>" in done.stderr
    done = run("test", *say, "split=val", cwd=cwd)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run_folder(cwd, "test_folder"))
    assert metrics["headline"] == "val/hmean" and metrics["selected_on"] == "val"
    assert metrics["images"] == 12 - torch.load(folder / "checkpoints/best.ckpt")["data"]["seen"]["train"].numel()


def test_of_a_folder_that_was_trained_on_only_what_is_held_out_is_scored(on_a_folder: tuple[Path, Path, str]):
    cwd, folder, _ = on_a_folder
    seen = torch.load(folder / "checkpoints/best.ckpt")["data"]["seen"]
    say = [OFF, f"ckpt_path={folder}", "trainer=cpu", "data.num_workers=0", "data=folder"]

    done = run("test", *say, "data.root=receipts", "name=same", cwd=cwd)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run_folder(cwd, "same"))
    assert (metrics["headline"], metrics["images"]) == ("val/hmean", seen["val"].numel()), "not the trained ones"

    write_icdar(cwd / "others", 3, 50, 0.3)
    done = run("test", *say, "data.root=others", "name=others", cwd=cwd)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run_folder(cwd, "others"))
    assert (metrics["headline"], metrics["images"], metrics["selected_on"]) == ("test/hmean", 3, None), "all of it"

    for line in (run_folder(cwd, "same") / "predictions.jsonl").read_text().splitlines():  # what it was not trained on
        name = Path(json.loads(line)["image"]).stem
        for path in (cwd / "receipts").rglob(f"*{name}.*"):
            path.unlink()
    done = run("test", *say, "data.root=receipts", "name=seen", cwd=cwd)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run_folder(cwd, "seen"))
    trained = seen["train"].numel()
    assert f"{trained} of {trained} image(s) were trained on: this is no test" in done.stdout
    assert metrics["headline"] == "seen/hmean" and not [key for key in metrics if key.startswith("test/")]


def test_a_checkpoint_from_elsewhere_is_tested_on_its_own_data_with_the_same_figures(learned: Path, tmp_path: Path):
    trained = metrics_of(learned)
    assert trained["test/hmean"] > 0.5 and trained["val/hmean"] > 0.5
    for split in ("test", "val"):
        done = run(
            "test", OFF, f"ckpt_path={learned}", f"split={split}", "trainer=cpu", "data.num_workers=0", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        metrics = metrics_of(run_folder(tmp_path, "test_synthetic"))
        for name in ("hmean", "precision", "recall", "deteval_hmean", "cleval_hmean", "mean_iou"):
            assert metrics[f"{split}/{name}"] == trained[f"{split}/{name}"], name


def test_what_was_validated_on_is_no_test_whatever_the_config_calls_it(tmp_path: Path):
    done = run("train", *TINY, OFF, "data.test=${data.val}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run_folder(tmp_path))
    assert metrics["headline"] == "val/hmean" and metrics["selected_on"] == "val"
    assert not [key for key in {*metrics, *logged(run_folder(tmp_path))} if key.startswith("test/")]


def test_a_tuned_checkpoint_is_judged_by_cross_validation(learned: Path, tmp_path: Path):
    grid = ["tuning.thresh=[0.2,0.3]", "tuning.box_thresh=[0.3,0.5]", "tuning.unclip={exact:[0.4,0.6]}",
            "tuning.min_size=[2]"]  # fmt: skip
    say = [OFF, "trainer=cpu", "data.num_workers=0"]
    done = run("tune", *say, f"ckpt_path={learned}", *grid, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path, "tune_synthetic")
    tuned = metrics_of(folder)
    assert (tuned["headline"], tuned["selected_on"]) == ("tune/held_out_hmean", "val")
    assert tuned["tune/held_out_hmean"] > 0.5
    assert done.stdout.index("tune/held_out_hmean") < done.stdout.index("tune/before_hmean")
    done = run("test", *say, f"ckpt_path={folder / 'checkpoints/tuned.ckpt'}", "split=val", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run_folder(tmp_path, "test_synthetic"))
    assert metrics["val/hmean"] == tuned["val/hmean"] > metrics_of(learned)["val/hmean"], "as it was written"
