"""Sweeps through the real runner: killed, resumed, joined, pruned, failed, ranked."""

from __future__ import annotations

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="sweeps need Optuna: make setup EXTRAS=study")
from ocr.errors import UserError
from ocr.jobs.sweep.folder import check_same
from ocr.sweeps.study import open_storage, open_study
from tests.conftest import ROOT
from tests.tiny import OFF, SMALL, TINY, inspect, run, started, wait_for

pytestmark = pytest.mark.slow
# eight seconds of training per trial on two idle cores, after which hmean is 0.3 to 0.4
SHORT = [*SMALL, "trainer.max_epochs=3", "schedule.warmup_fraction=0.2",
          "trainer.gradient_clip_val=1.0", "seed=7", "test=false"]  # fmt: skip
STUDY = ["-m", *SHORT, "+sweep=optimizer", "sweep.n_trials=3", "sweep.pruner.n_startup_trials=1",
         "optimizer.lr=tag(log,interval(6e-3,1.4e-2))", "hydra.sweep.dir=sweep"]  # fmt: skip


def metrics(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


def trial_states(folder: Path) -> list[str]:
    name = json.loads((folder / "sweep.json").read_text())["study"]
    study = open_study(open_storage(None, folder), name, maximize=True, pruner=None)
    return [trial.state.name for trial in study.trials]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of three trials that was killed twice, each time within one, and gone on with for four."""
    cwd = tmp_path_factory.mktemp("killed")
    sweep = cwd / "sweep"
    resume: list[str] = []
    for finished in (0, 1):
        with started("train", *STUDY, *resume, cwd=cwd, stderr=subprocess.DEVNULL, WANDB_MODE="offline") as process:

            def within_a_trial(finished: int = finished) -> bool:
                checkpoints = [*sweep.glob("*/checkpoints/last.ckpt")]
                ended = [*sweep.glob("*/metrics.json")]
                return len(ended) >= finished and len(checkpoints) > len(ended)

            wait_for(within_a_trial, 240)
            process.kill()
        resume = ["sweep.resume=sweep"]
    done = run("train", *STUDY, *resume, "sweep.n_trials=4", cwd=cwd, WANDB_MODE="offline")
    (cwd / "stdout").write_text(done.stdout)
    (cwd / "stderr").write_text(done.stderr)
    assert done.returncode == 0, done.stderr
    return sweep


def test_a_sweep_that_was_killed_twice_has_each_of_its_trials_once(killed: Path):
    folders = sorted(p.parent.name for p in killed.glob("*/metrics.json"))
    assert folders == ["0", "1", "2", "3"]
    states = [metrics(killed / name)["state"] for name in folders]
    assert trial_states(killed) == [{"finished": "COMPLETE", "pruned": "PRUNED"}[state] for state in states]
    assert len({tuple(metrics(killed / name)["sweep"]["varied"].items()) for name in folders}) == 4
    assert max(metrics(killed / name)["val/hmean"] for name in folders) > 0.2, "something was learned"


def test_interrupted_trials_go_on_from_their_checkpoint_in_their_own_w_and_b_run(killed: Path):
    folders = [path.parent for path in killed.glob("*/metrics.json")]
    attempts = {folder.name: sorted(folder.glob("wandb/offline-run-*")) for folder in folders}
    twice = [name for name, runs in attempts.items() if len(runs) > 1]
    assert twice, "the kills came within trials"
    for name in twice:
        assert len({folder.name.rpartition("-")[2] for folder in attempts[name]}) == 1
        log = (killed / name / "run.log").read_text()
        epochs = [line.split("epoch ")[1].split("/")[0] for line in log.splitlines() if " epoch " in line]
        assert len(epochs) == len(set(epochs)), f"an epoch was trained again: {epochs}"


def test_the_winners_command_gives_the_same_figure(killed: Path, tmp_path: Path):
    [line] = [line for line in (killed.parent / "stdout").read_text().splitlines() if " runners/train.py " in line]
    [best, *_] = csv.DictReader((killed / "sweep.csv").open())
    words = shlex.split(line)
    start = words.index("python")  # OMP_NUM_THREADS=... may stand before it
    done = run("train", *words[start + 2 :], OFF, cwd=tmp_path, **dict(word.split("=") for word in words[:start]))
    assert done.returncode == 0, done.stderr
    [again] = tmp_path.glob("runs/*/*/metrics.json")
    assert float(best["val/hmean"]) == pytest.approx(json.loads(again.read_text())["val/hmean"], abs=1e-6)


def test_the_ranking_is_one_run_in_the_group_of_its_jobs(killed: Path):
    content = inspect(killed)
    jobs = json.loads((killed / "0/wandb_run.json").read_text())
    own = json.loads((killed / "wandb_run.json").read_text())
    assert own["group"] == jobs["group"] and own["id"] != jobs["id"]
    states = [metrics(killed / str(k))["state"] for k in range(4)]
    assert content["summary"]["trials/finished"] == states.count("finished")
    assert content["summary"]["trials/pruned"] == states.count("pruned")
    [best, *_] = csv.DictReader((killed / "sweep.csv").open())
    assert content["summary"]["val/hmean"] == pytest.approx(float(best["val/hmean"]), abs=1e-6)
    assert [*killed.glob("wandb/offline-run-*/files/media/images/sweep/*.png")]


def test_a_folder_with_jobs_is_not_written_over(killed: Path):
    before = {path: path.read_bytes() for path in killed.glob("*/metrics.json")}
    again = run("train", *STUDY, OFF, cwd=killed.parent)
    assert again.returncode == 2 and "sweep.resume=sweep goes on with it" in again.stderr
    plain = run("train", "-m", *TINY, OFF, "seed=1,2", "hydra.sweep.dir=sweep", cwd=killed.parent)
    assert plain.returncode == 2 and "has the jobs of another sweep" in plain.stderr
    assert {path: path.read_bytes() for path in killed.glob("*/metrics.json")} == before


def test_a_sweep_that_is_done_has_nothing_to_do(killed: Path):
    done = run("train", *STUDY, "sweep.n_trials=4", "sweep.resume=sweep", cwd=killed.parent, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert "epoch 1/3" not in done.stderr and "ranked by val/hmean" in done.stdout and len(trial_states(killed)) == 4


def test_other_settings_than_the_sweep_had_are_refused(killed: Path):
    facts = json.loads((killed / "sweep.json").read_text())
    assert check_same(killed, facts)["study"] == facts["study"]
    with pytest.raises(UserError, match="other settings: seeds was 1, is 2"):
        check_same(killed, facts | {"seeds": 2})
    with pytest.raises(UserError, match="begun in another folder: cd "):
        check_same(killed, facts | {"cwd": "/elsewhere"})


def test_two_workers_share_a_study_and_no_trial_is_run_twice(tmp_path: Path):
    grid = ["-m", *TINY, OFF, "trainer.max_epochs=1", "test=false", "+sweep=grid", "optimizer.lr=1e-3,2e-3,3e-3",
            "model.head.channels=4,8", "hydra.sweep.dir=sweep",
            "+callbacks.wait={_target_:tests.tiny.WaitsFor,path:sweep/1}"]  # fmt: skip
    with started("train", *grid, cwd=tmp_path, PYTHONPATH=str(ROOT)) as first:  # in trial 0 until another runs trial 1
        wait_for((tmp_path / "sweep/sweep.json").is_file)
        join = [sys.executable, str(ROOT / "runners/sweep_worker.py"), "sweep"]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        second = subprocess.run(join, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=env)
        out, err = first.communicate(timeout=300)
    assert (first.returncode, second.returncode) == (0, 0), err + second.stderr
    shares = [text.count("epoch 1/1") for text in (err, second.stderr)]
    assert sum(shares) == 6 and min(shares) >= 1
    varied = [tuple(metrics(tmp_path / f"sweep/{k}")["sweep"]["varied"].items()) for k in range(6)]
    assert len(set(varied)) == 6
    assert "ranked by val/hmean" in out + second.stdout


def test_each_seed_of_a_trial_is_trained_and_the_ranking_is_over_them(tmp_path: Path):
    arguments = ["-m", *TINY, OFF, "name=2024", "trainer.max_epochs=1", "test=false", "+sweep=grid", "seed=5",
                 "sweep.seeds=2", "+lr_multipliers.backbone=0.1,1.0", "hydra.sweep.dir=sweep"]  # fmt: skip
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = {path.parent.name: metrics(path.parent) for path in tmp_path.glob("sweep/*/metrics.json")}
    assert sorted(folders) == ["0_seed_5", "0_seed_6", "1_seed_5", "1_seed_6"]
    assert [folders[name]["seed"] for name in sorted(folders)] == [5, 6, 5, 6]
    rows = list(csv.DictReader((tmp_path / "sweep/sweep.csv").open()))
    assert [row["seeds"] for row in rows] == ["2", "2"] and rows[1]["test"] == "paired t"
    assert {row["lr_multipliers.backbone"] for row in rows} == {"0.1", "1.0"}


def test_failed_jobs_are_counted_recorded_and_explained_once(tmp_path: Path):
    arguments = ["-m", *TINY, "trainer.max_epochs=1", "test=false", "+sweep=grid", "hydra.sweep.dir=sweep",
                 "optimizer.lr=1e-3,-1",
                 "+callbacks.x._target_=tests.tiny.Broken,lightning.pytorch.callbacks.Timer"]  # fmt: skip
    done = run("train", *arguments, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 3, done.stderr
    assert trial_states(tmp_path / "sweep") == ["FAIL", "COMPLETE", "FAIL", "FAIL"]
    assert "Traceback" not in done.stderr
    for number, reason in ((0, "planted"), (2, "optimizer.lr"), (3, "optimizer.lr")):
        [line] = [line for line in done.stderr.splitlines() if f"job {number} failed: " in line]
        assert reason in line
        log = (tmp_path / f"sweep/{number}/run.log").read_text()
        assert log.count("Traceback (most recent call last)") == (1 if reason == "planted" else 0)
        content = inspect(tmp_path / f"sweep/{number}")
        assert "failed" in content["tags"] and content["exit_code"] in (1, 2)
    rows = list(csv.DictReader((tmp_path / "sweep/sweep.csv").open()))
    assert [row["state"] for row in rows] == ["finished", "failed", "failed", "failed"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["+sweep=grid", "model.nek.channels=1,2"], "model.nek.channels=1: "),
        (["+sweep=optimizer", "sweep.n_trils=3"], "did you mean 'sweep.n_trials'"),
        (["+sweep=optimizer", "sweep.resume=nowhere"], "is this the folder of a sweep?"),
        (["+sweep=grid", "seed=1,5", "sweep.seeds=2"], "one of the two"),
        (["+sweep=grid", "data.root=https://bob:hunter2secret@h.example/a,b"], "a password or token cannot vary"),
    ],
)
def test_a_sweep_that_cannot_begin_says_why_in_one_line(arguments: list[str], words: str, tmp_path: Path):
    done = run("train", "-m", OFF, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1


def test_a_sweep_needs_multirun(tmp_path: Path):
    done = run("train", *TINY, OFF, "+sweep=optimizer", cwd=tmp_path)
    assert done.returncode == 2 and "-m" in done.stderr
