"""The jobs from end to end, started as a user starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT
from tests.tiny import OFF, TINY, inspect, run, run_folder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a tiny training was started in."""
    cwd = tmp_path_factory.mktemp("trained")
    done = run("train", *TINY, OFF, "seed=7", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (cwd / "stdout").write_text(done.stdout)
    (cwd / "stderr").write_text(done.stderr)
    return cwd


def test_training_leaves_what_the_design_says(trained: Path):
    folder = run_folder(trained)
    for name in (".hydra/config.yaml", "run.log", "metrics.json", "predictions.jsonl", "csv/metrics.csv"):
        assert (folder / name).is_file(), name
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    metrics = json.loads((folder / "metrics.json").read_text())
    wanted = {"train/loss", "train/loss_bce", "train/loss_l1", "train/loss_dice", "val/hmean", "val/precision",
              "val/recall", "test/hmean", "test/precision", "test/recall", "seconds", "images_per_second",
              "git_commit", "config_hash"}  # fmt: skip
    assert wanted <= set(metrics)
    assert "train/loss" in (folder / "csv/metrics.csv").read_text()
    printed = (trained / "stdout").read_text()
    assert "test/hmean" in printed and "best.ckpt" in printed and "metrics.json" in printed


def test_predictions_have_the_documented_form(trained: Path):
    lines = (run_folder(trained) / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 3
    for line in map(json.loads, lines):
        assert set(line) == {"image", "width", "height", "polygons", "scores"}
        assert len(line["polygons"]) == len(line["scores"])
        for polygon in line["polygons"]:
            points = np.array(polygon)
            assert points.ndim == 2 and points.shape[1] == 2
            assert (points >= 0).all() and (points <= (line["width"], line["height"])).all()


def test_a_checkpoint_has_plain_types_and_all_that_a_detector_needs(trained: Path):
    from ocr.training.loading import load_module

    path = run_folder(trained) / "checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["hyper_parameters"]["pipeline"]["resize"]["long_side"] == 160
    module = load_module(run_folder(trained))
    assert module.pipeline.to_dict() == checkpoint["hyper_parameters"]["pipeline"]
    weights = module.state_dict()
    assert all(torch.equal(weights[k], v) for k, v in checkpoint["state_dict"].items())


def test_a_checkpoint_that_names_foreign_code_is_not_loaded(trained: Path, tmp_path: Path):
    from ocr.errors import UserError
    from ocr.training.loading import load_module

    checkpoint = torch.load(run_folder(trained) / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["hyper_parameters"]["network"]["backbone"]["kwargs"] = {
        "x": {"_target_": "os.system", "command": "true"}
    }
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"os\.system"):
        load_module(tmp_path / "evil.ckpt")


def test_predict_takes_image_folder_and_glob(trained: Path, tmp_path: Path):
    from ocr.jobs.make_data import write_icdar

    images = write_icdar(tmp_path / "set", 3, 0, 0.5) / "images"
    best = run_folder(trained) / "checkpoints/best.ckpt"
    one = sorted(images.iterdir())[0]
    for source, count in ((one, 1), (images, 3), (f"{images}/*.jpg", 3)):
        output = tmp_path / f"out{count}"
        done = run("predict", f"ckpt_path={best}", f"source='{source}'", f"output={output}", "overlays=true",
                   "accelerator=cpu", "num_workers=0", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
        assert len(lines) == count and Path(lines[0]["image"]).is_file()
        assert len(list((output / "overlays").glob("*.jpg"))) == count
    done = run("predict", f"ckpt_path={best}", "source=nowhere", f"output={tmp_path}/x", cwd=tmp_path)
    assert done.returncode == 2 and "no such image" in done.stderr


def test_two_runs_with_one_seed_are_equal_to_the_bit(trained: Path, tmp_path: Path):
    done = run("train", *TINY, OFF, "seed=7", "data.num_workers=2", "test=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, other = (
        torch.load(run_folder(cwd) / "checkpoints/last.ckpt", weights_only=True) for cwd in (trained, tmp_path)
    )
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(one[key][k], v) for k, v in other[key].items())
    assert any(not torch.equal(one["state_dict"][k], v) for k, v in one["current_model_state"].items())  # EMA is on


def test_resume_goes_on_with_the_runs_own_settings(trained: Path):
    done = run("train", f"resume={run_folder(trained)}", "trainer.max_epochs=3", "test=false", "name=more", cwd=trained)
    assert done.returncode == 0, done.stderr
    resumed = torch.load(run_folder(trained, "more") / "checkpoints/last.ckpt", weights_only=True)
    assert resumed["epoch"] == 2 and resumed["global_step"] == 6
    assert resumed["hyper_parameters"]["network"]["neck"]["channels"] == 16  # from the stopped run's command line
    assert "has changed" not in done.stderr
    rows = (run_folder(trained, "more") / "csv/metrics.csv").read_text()
    assert "0,,," not in rows.splitlines()[1][:2]
    done = run("train", "resume=true", "name=nothing_here", cwd=trained)
    assert done.returncode == 2 and "resume=true" in done.stderr


def test_two_processes_score_as_one(trained: Path):
    """trainer=ddp_cpu: gradients, sharded validation and the merged predictions of two processes."""
    done = run("train", *[a for a in TINY if not a.startswith("trainer=")], "trainer=ddp_cpu", "name=ddp", cwd=trained)
    assert done.returncode == 0, done.stderr
    folder = run_folder(trained, "ddp")
    assert inspect(folder)["exit_code"] == 0, "one W&B run of the two processes"
    metrics = json.loads((folder / "metrics.json").read_text())
    names = [json.loads(line)["image"] for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert names == [f"synthetic_3_{i:06d}.jpg" for i in range(3)]
    done = run("test", f"ckpt_path={folder}", "trainer=cpu", "data.test=[{format:synthetic,count:3,seed:3}]", OFF,
               "data.num_workers=0", "name=alone", cwd=trained)  # fmt: skip
    alone = json.loads((run_folder(trained, "alone") / "metrics.json").read_text())
    assert alone["test/hmean"] == metrics["test/hmean"]


@pytest.mark.parametrize("choice", ["fdr", "overfit", "profiler"])  # the last one includes limit
def test_debug_configs(choice: str, tmp_path: Path):
    extra = ["trainer.max_epochs=2"] if choice == "overfit" else []
    arguments = [a for a in TINY if not a.startswith("trainer.max_epochs")]
    done = run("train", *arguments, f"debug={choice}", OFF, *extra, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if choice == "profiler":
        assert list(run_folder(tmp_path).glob("*profile*"))


def test_a_training_that_diverges_ends_with_an_error(tmp_path: Path):
    done = run("train", *TINY, OFF, "optimizer.lr=1e30", "schedule.warmup_fraction=0", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    [message] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "not finite after step 2" in message and "optimizer.lr" in message, "two steps an epoch, then a validation"
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_training_with_spawned_workers(tmp_path: Path):
    """As on macOS and Windows: everything that goes to a worker is pickled, and modules are imported again."""
    code = "import multiprocessing, runpy, sys; multiprocessing.set_start_method('spawn'); "
    code += "sys.path.insert(0, sys.argv[1]); sys.argv[:2] = ['train']; "
    code += "runpy.run_path(sys.path[0] + '/train.py', run_name='__main__')"
    command = [sys.executable, "-c", code, str(ROOT / "runners"), *TINY, "data.num_workers=1", "trainer.max_epochs=1"]
    done = subprocess.run([*command, "logger.offline=true"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((run_folder(tmp_path) / "metrics.json").read_text())
    assert {"val/hmean", "test/hmean", "train/loss"} <= set(metrics)
