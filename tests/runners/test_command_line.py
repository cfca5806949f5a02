"""What a user sees who types something wrong, and how quickly the help comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, quad, write_image
from tests.tiny import OFF, TINY, run


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["trainer.max_epoch=3"], ["no setting 'trainer.max_epoch'", "did you mean 'trainer.max_epochs'"]),
        (["optimiser.lr=1"], ["no setting 'optimiser.lr'", "did you mean 'optimizer.lr'"]),
        (["data=sroi"], ["sroie", "data/sroi"]),
        (["data=sroie"], ["data.root is not set", "data.root=<value>"]),
        (["data=sroie", "data.root=nowhere"], ["image folder not found: nowhere/img"]),
        (["trainer.max_epochs"], ["trainer.max_epochs"]),
        (["model.backbone.name=resnet_19"], ["no model 'resnet_19'"]),
        (["model.pipeline.postprocess.thresh=3"], ["thresh must lie in 0..1"]),
        (["model.loss.bce=3", ], ["no setting 'model.loss.bce'", "model.loss.bce_weight"]),
        (["+model.loss.bce=3"], ["bce"]),
        (["model.loss={bce_weigth: 3}"], ["'model.loss.bce_weigth'", "did you mean 'model.loss.bce_weight'"]),
        (["optimizer.lr_shares={neck: 0}"], ["no setting 'optimizer.lr_shares.neck'", "+optimizer.lr_shares=..."]),
        (["optimizer.lr=-1"], ["optimizer.lr must be positive"]),
        (["data.batch_size=0"], ["data.batch_size"]),
        (["data.num_workers=many"], ["data.num_workers"]),
        (["seed=abc"], ["seed must be a whole number"]),
        (["seed=-1", "overlays=-2"], ["seed must be in 0..4294967295", "overlays must be at least 0"]),
        (["name=../elsewhere"], ["name must be"]),
        (["resume=nowhere"], ["resume=nowhere"]),
        (["trainer=gpu"], ["trainer:"]),
        (["callbacks.ema.avg_fn.decay=2"], ["decay"]),
    ],
)  # fmt: skip
def test_a_user_error_is_one_line_and_exit_code_2(arguments: list[str], words: list[str], tmp_path: Path):
    import torch

    if arguments == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run("train", OFF, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(message) == 1, done.stderr
    for word in words:
        assert word in message[0]


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"PK\x03\x04 nor this"])
def test_a_wrong_checkpoint_is_a_user_error(content: bytes | None, tmp_path: Path):
    path = tmp_path / "a.ckpt"
    if content is not None:
        path.write_bytes(content)
    done = run("test", OFF, f"ckpt_path={path}", cwd=tmp_path)
    assert done.returncode == 2 and "a.ckpt" in done.stderr and "Traceback" not in done.stderr
    assert "weights_only" not in done.stderr, "torch's advice to load it all the same"


def test_strict_data_names_the_line(tmp_path: Path):
    write_image(tmp_path / "set/images/a.jpg")
    (tmp_path / "set/labels").mkdir()
    sound = ",".join(str(v) for p in quad(5, 5) for v in p)
    (tmp_path / "set/labels/gt_a.txt").write_text(f"{sound},x\nbroken\n")
    arguments = [OFF, "data=folder", f"data.root={tmp_path}/set", "data.val_from=1.0", "data.strict=true"]
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and "gt_a.txt:2" in done.stderr


def test_help_and_config_come_without_torch():
    for flag in ("--help", "--cfg=job"):
        code = (
            "import runpy, sys\n"
            f"sys.argv = ['runners/train.py', {flag!r}]\n"
            "sys.path.insert(0, 'runners')\n"
            "try: runpy.run_path('runners/train.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "print('TORCH' if 'torch' in sys.modules else 'LIGHT')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("LIGHT"), done.stdout[-300:] + done.stderr[-300:]


@pytest.mark.slow
def test_a_sweep_gives_each_job_its_own_folder(tmp_path: Path):
    one = [*TINY, OFF, "test=false", "trainer.max_epochs=1", "name=2024", "optimized_metric=val/nothing"]
    done = run("train", "-m", *one, "optimizer.lr=1e-3,3e-3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/2024/sweep_*/*/metrics.json"))) == 2
    assert "optimized_metric=val/nothing was not measured" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_hundred_run_folders_do_not_collide(tmp_path: Path):
    import os

    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    seen = set()
    for _ in range(100):
        OmegaConf.register_new_resolver("token", lambda: os.urandom(3).hex(), use_cache=True, replace=True)
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose("train", return_hydra_config=True, overrides=["name=x"])
        seen.add(config.hydra.run.dir)
    assert len(seen) == 100


def test_make_data_writes_a_set_that_can_be_read_back(tmp_path: Path):
    from ocr.data.sources import build_sources

    done = run("make_data", "output=receipts", "count=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = {"format": "icdar", "images": "images", "annotations": "labels"}
    [source], report = build_sources([spec], str(tmp_path / "receipts"), "train", strict=True)
    assert len(source) == 3 and not report.problems
    assert run("make_data", "output=receipts", "count=3", cwd=tmp_path).returncode == 2
