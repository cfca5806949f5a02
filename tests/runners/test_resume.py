"""Going on: whose settings, which data, which checkpoint, at which rate, and one at a time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from ocr.errors import UserError
from ocr.jobs.command_line.compose import compose_job
from ocr.jobs.command_line.resume import with_earlier_overrides
from ocr.training.resume import check_remaining, find_checkpoint, hold
from tests.conftest import ROOT
from tests.tiny import OFF, TINY, run, run_folder, started, wait_for

OUTSIDE = "tests.tiny.Broken"  # a callback from outside the project


def stopped(folder: Path, *overrides: str, data: dict[str, Any] | None = None, cwd: Path | None = None) -> Path:
    """A run folder as Hydra leaves it, with a checkpoint that is whole; ``data`` changes what it was trained on."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({}, folder / "checkpoints/last.ckpt")
    (folder / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra/overrides.yaml")
    plain = [o for o in overrides if "_target_" not in o and "hydra" not in o and ".." not in o]
    composed = compose_job("train", plain, with_hydra=True)
    config = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    OmegaConf.set_struct(config, False)
    for key, value in (data or {}).items():
        if value is None:
            del config.data[key]
        else:
            config.data[key] = value
    OmegaConf.save(config, folder / ".hydra/config.yaml")
    runtime = {"hydra": {"runtime": {"cwd": str(cwd or Path.cwd())}}}
    OmegaConf.save(OmegaConf.create(runtime), folder / ".hydra/hydra.yaml")
    return folder


def resumed(folder: Path, *arguments: str) -> DictConfig:
    """The config of a command that resumes the run."""
    return compose_job("train", with_earlier_overrides([f"resume={folder}", *arguments]), with_hydra=True)


SOURCES = [{"format": "sroie", "images": "img", "annotations": "box", "ids": "old.txt"}]


def test_the_data_is_that_of_the_stopped_run_and_not_todays_default(tmp_path: Path):
    was = {"val": SOURCES, "test": "${data.val}", "mix": [], "eval_batch_size": 3, "geometry": {"rotate": 1.5}}
    folder = stopped(tmp_path / "run", "data=sroie", f"data.root={tmp_path}", data=was)
    data = resumed(folder).data
    assert data.val == SOURCES and data.test == SOURCES and data.eval_batch_size == 3
    assert data.geometry.rotate == 1.5 and data.root == str(tmp_path)
    folder = stopped(tmp_path / "without", "data=synthetic", data={"test": None})
    assert resumed(folder).data.test == [], "a split that it did not have"


def test_what_this_command_says_of_the_data_comes_after_that(tmp_path: Path):
    was = {"val": SOURCES, "eval_batch_size": 3, "num_workers": 7}
    folder = stopped(tmp_path / "run", "data=sroie", f"data.root={tmp_path}", "data.batch_size=5", data=was)
    data = resumed(folder, "data.eval_batch_size=2", "debug=overfit").data
    assert (data.val, data.eval_batch_size, data.num_workers) == (SOURCES, 2, 0), "debug=overfit has no workers"
    data = resumed(folder, "mix=synthetic").data
    assert data.mix[0].count == 2000 and data.mix_ratio == 0.1 and data.val == SOURCES
    data = resumed(folder, "data=synthetic", "data.root=null").data
    assert data.val[0].format == "synthetic" and data.batch_size == 5
    once = with_earlier_overrides([f"resume={folder}"])
    assert with_earlier_overrides(once) == once, "a second process of the same training starts from the same"


def test_relative_paths_are_those_of_the_first_runs_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, other = tmp_path / "first", tmp_path / "other"
    for place in (first / "receipts", first / "mix", other):
        place.mkdir(parents=True)
    (first / "own.ckpt").touch()
    arguments = ["data=sroie", "data.root=receipts", "mix=folder", "data.mix_root=mix", "model=ppocr_v4"]
    folder = stopped(tmp_path / "run", *arguments, "model.weights=own.ckpt", cwd=first)
    monkeypatch.chdir(other)
    config = resumed(folder)
    assert (config.data.root, config.data.mix_root) == (str(first / "receipts"), str(first / "mix"))
    assert config.data.mix[-1].root == str(first / "mix") and config.model.weights == str(first / "own.ckpt")
    assert resumed(folder, "data.root=mine").data.root == "mine"
    bare = stopped(tmp_path / "bare", f"data.train=[{{format:sroie,images:{first}/a,annotations:b}}]", cwd=first)
    assert resumed(bare).data.root == str(first), "without a root they are relative to where it was started"
    monkeypatch.chdir(first)
    assert not [o for o in with_earlier_overrides([f"resume={folder}"]) if o.startswith("++")]


@pytest.mark.parametrize("name", ["it's", "a=b [c]", "영수증", "two  words", "back\\slash", "'quoted'", "50% #1"])
def test_any_folder_name_can_be_resumed(name: str, tmp_path: Path):
    folder = stopped(tmp_path / name, "seed=3")
    for shown in (f"resume={folder}", 'resume="' + str(folder).replace("\\", "\\\\") + '"'):
        if "\\" in name and '"' in shown:
            continue
        config = compose_job("train", with_earlier_overrides([shown]), with_hydra=True)
        assert config.resume == str(folder / "checkpoints/last.ckpt") and config.seed == 3


@pytest.mark.parametrize(
    "override, words",
    [
        ("+callbacks.x._target_=os.system", "os.system"),
        ("+callbacks.x={_target_: os.system, command: 'true'}", "os.system"),
        ("+x=[{deep: {_target_: ocr.training.trainer.torch.hub.load}}]", "torch.hub.load"),
        ("model.network._target_=ocr.jobs.command_line.check_nodes.hydra.utils.call", "hydra.utils.call"),
        ("model.loss={_target_: [os.system]}", "os.system"),
        ("trainer.profiler={_target_: os.system, _partial_: true}", "os.system"),
        ("+x='${oc.create:{_target_: os.system}}'", "oc.create"),
        ("+x='${oc.decode:${y}}'", "oc.decode"),
        ("+x='${${y}:os.system}'", "${${y}"),
        ("hydra.callbacks.x._target_=os.system", "hydra.callbacks"),
        ("+hydra.job_logging.handlers.x={class: os.system}", "hydra.job_logging"),
        ("hydra/launcher=joblib", "hydra/launcher"),
        ("+callbacks@hydra.callbacks=default", "callbacks@hydra.callbacks"),
        ("experiment=../../elsewhere/evil", "experiment"),
    ],
)
def test_a_strangers_folder_runs_nothing_that_nobody_named(override: str, words: str, tmp_path: Path):
    folder = stopped(tmp_path / "run", "seed=1", override)
    with pytest.raises(UserError) as error:
        resumed(folder)
    assert words in str(error.value) and str(folder) in str(error.value) and "\n" not in str(error.value)


def test_a_strangers_data_config_runs_nothing_either(tmp_path: Path):
    folder = stopped(tmp_path / "a", data={"geometry": {"_target_": "os.system"}})
    with pytest.raises(UserError, match=r"os\.system"):
        with_earlier_overrides([f"resume={folder}"])
    folder = stopped(tmp_path / "b", data={"name": "x"})
    text = (folder / ".hydra/config.yaml").read_text()
    (folder / ".hydra/config.yaml").write_text(text.replace("name: x", "name: '${oc.decode:${oc.env:HOME}}'"))
    with pytest.raises(UserError, match=r"oc\.decode"):
        with_earlier_overrides([f"resume={folder}"])
    (folder / ".hydra/overrides.yaml").write_text("a: b\n")
    with pytest.raises(UserError, match=r"overrides\.yaml is none of Hydra's"):
        with_earlier_overrides([f"resume={folder}"])


def test_what_this_command_names_itself_may_run(tmp_path: Path):
    folder = stopped(tmp_path / "run", f"+callbacks.mine._target_={OUTSIDE}", "trusted_targets=[os.system]",
                     "data.root=${oc.env:HOME}", "callbacks.ema=null")  # fmt: skip
    with pytest.raises(UserError, match=rf"trusted_targets=\[{OUTSIDE}\]"):
        resumed(folder)
    for more in (f"trusted_targets=[{OUTSIDE}]", f"+callbacks.mine={{_target_: {OUTSIDE}}}"):
        config = resumed(folder, more)
        assert config.callbacks.mine._target_ == OUTSIDE and config.callbacks.ema is None
        assert "os.system" not in config.trusted_targets, "trust is not taken over"


def _damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "flipped":
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        place = largest.header_offset + 200 + largest.file_size // 2
        content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "flipped": content}[how])


@pytest.fixture
def copied(learned: Path, tmp_path: Path) -> Path:
    """The folder of a run that has learned something, to be written in."""
    folder = tmp_path / "runs/learned/copy"
    shutil.copytree(learned, folder)
    return folder


@pytest.mark.parametrize("how", ["empty", "cut", "flipped"])
def test_a_torn_last_checkpoint_is_passed_over_for_the_newest_sound_one(how: str, copied: Path, capsys):
    folder = copied / "checkpoints"
    sound = find_checkpoint(str(copied), copied)
    assert sound == folder / "last.ckpt" and not capsys.readouterr().err
    _damage(folder / "last.ckpt", how)
    shutil.copy(folder / "best.ckpt", folder / "previous.ckpt")
    os.utime(folder / "best.ckpt", (1, 1))
    weights = torch.load(folder / "best.ckpt", weights_only=True)
    torch.save({k: weights[k] for k in ("state_dict", "hyper_parameters")}, folder / "tuned.ckpt")
    (folder / "x.ckpt").touch()
    for resume, runs in ((True, copied.parent.parent), (str(copied), copied)):
        assert find_checkpoint(resume, runs) == folder / "previous.ckpt", "the newest that is whole and can go on"
        [line] = capsys.readouterr().err.splitlines()
        assert "last.ckpt" in line and "damaged" in line and "going on from previous.ckpt" in line
    with pytest.raises(UserError, match="damaged"):
        find_checkpoint(str(folder / "last.ckpt"), copied)
    for path in folder.glob("*.ckpt"):
        _damage(path, "empty")
    with pytest.raises(UserError, match="no other checkpoint"):
        find_checkpoint(True, copied.parent.parent)


@pytest.mark.slow
def test_a_run_with_a_torn_last_checkpoint_goes_on_and_keeps_its_best(copied: Path, tmp_path: Path):
    best = torch.load(copied / "checkpoints/best.ckpt", weights_only=True)
    _damage(copied / "checkpoints/last.ckpt", "cut")
    more = ["trainer.max_epochs=7", "trainer.limit_train_batches=2", "test=false"]
    done = run("train", f"resume={copied}", *more, "name=more", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on from best.ckpt" in done.stderr
    last = torch.load(run_folder(tmp_path, "more") / "checkpoints/last.ckpt", weights_only=True)
    assert last["epoch"] == 6 and last["global_step"] > best["global_step"]
    scores = [float(c["callbacks"][key]["best_model_score"]) for c in (best, last)
              for key in c["callbacks"] if "'monitor': 'val/hmean'" in key]  # fmt: skip
    assert scores[0] > 0.5 and scores[1] >= scores[0]


def test_a_finished_run_says_how_to_go_on(copied: Path):
    checkpoint = copied / "checkpoints/last.ckpt"
    for more, words in (
        ([], "all of its 5 epochs are done; to go on: trainer.max_epochs=<more than 5>"),
        (["trainer.max_epochs=-1", "trainer.max_steps=100"], "trainer.max_steps=<more than 200>"),
    ):
        with pytest.raises(UserError) as error:
            check_remaining(checkpoint, resumed(copied, *more).trainer)
        assert words in str(error.value), more
    check_remaining(checkpoint, resumed(copied, "trainer.max_epochs=7").trainer)
    content = torch.load(checkpoint, weights_only=True)
    torch.save({k: content[k] for k in ("state_dict", "hyper_parameters")}, checkpoint)
    with pytest.raises(UserError, match="no training to go on with"):
        check_remaining(checkpoint, resumed(copied).trainer)


def test_another_network_is_one_line(copied: Path):
    for other, words in (
        ("model=dbnet_resnet18", "model dbnet -> dbnet_resnet18"),
        ("model.backbone.name=resnet18", "backbone mobilenetv3_small_050 -> resnet18"),
        ("model.neck.channels=32", "neck "),
    ):
        with pytest.raises(UserError, match="another network") as error:
            resumed(copied, other)
        assert words in str(error.value) and str(copied) in str(error.value)
    assert resumed(copied, "model.loss.k=40", "model=dbnet").model.loss.k == 40, "its own model, and another loss"


HOLDER = """
import sys, time
from pathlib import Path
from ocr.training.resume import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_run_folder_is_one_processs_and_free_once_that_is_killed(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "run"], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"in use: process {other.pid} on "), hold(tmp_path / "run"):
            pass
        other.kill()
    with hold(tmp_path / "run"), hold(tmp_path / "another"):
        pass
    (tmp_path / "file").touch()
    with hold(tmp_path / "file/run"):
        pass  # nobody can write there


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_not_resumed_and_a_killed_one_goes_on_at_its_rate(tmp_path: Path):
    arguments = [a for a in TINY if not a.startswith("trainer.max_epochs")]
    with started("train", *arguments, OFF, "trainer.max_epochs=400", "test=false", cwd=tmp_path) as process:
        wait_for(lambda: [*tmp_path.glob("runs/synthetic/*/checkpoints/last.ckpt")])
        folder = run_folder(tmp_path)
        done = run("train", f"resume={folder}", "name=second", cwd=tmp_path)
        assert done.returncode == 2 and f"is in use: process {process.pid}" in done.stderr, done.stderr
        os.killpg(process.pid, signal.SIGKILL)
    before = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    epochs, rate = before["epoch"] + 1, max(before["lr_schedulers"][0]["_last_lr"])
    assert 1 <= epochs < 400 and rate > 0
    done = run("train", f"resume={folder}", f"trainer.max_epochs={epochs + 1}", "name=more", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"goes on with {rate:.3g} after step {2 * epochs}, to step {2 * epochs + 2}" in done.stderr
    after = torch.load(run_folder(tmp_path, "more") / "checkpoints/last.ckpt", weights_only=True)
    assert after["epoch"] == epochs and max(after["lr_schedulers"][0]["_last_lr"]) < rate
