"""Real W&B runs, offline, read back with wandb's own reader."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest
import wandb
from omegaconf import OmegaConf

from ocr.errors import UserError
from ocr.tracking.credentials import load_env_variables, server_url, stored_key
from ocr.tracking.naming import finished_name, generate_run_name
from ocr.tracking.run import tracked_run
from ocr.tracking.summary import BEST, define_metrics, finalize_run
from ocr.tracking.tools.dashboard import build_workspace
from tests.composing import job_for
from tests.standin import StandIn
from tests.tiny import TINY, history, inspect, run, run_folder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, str]:
    import os

    cwd = tmp_path_factory.mktemp("recorded")
    (cwd / ".env").write_text("WANDB_USER = ' ann '\nWANDB_PROJECT=from_env_file\nWANDB_API_KEY=\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("WANDB_")]:
            patch.delenv(name)
        done = run("train", *TINY, cwd=cwd, NETRC=os.devnull, WANDB_ERROR_REPORTING="false", HOME=str(cwd))
    assert done.returncode == 0, done.stderr
    return inspect(run_folder(cwd)), run_folder(cwd), done.stderr


@pytest.mark.slow
def test_config_is_resolved(recorded):
    content, _, _ = recorded
    text = json.dumps(content)
    assert "${" not in text
    config = content["config"]
    config = config.get("value", config)
    assert "mobilenetv3_small_050" in json.dumps(config)
    facts = {"data_fingerprint", "data_counts", "parameters", "git_commit", "git_dirty", "hostname", "timestamp",
             "versions", "device", "command", "config_hash", "platform"}  # fmt: skip
    assert facts <= set(config)
    assert config["command"].startswith("python runners/train.py model.backbone.name=mobilenetv3_small_050")


@pytest.mark.slow
def test_summary_is_finite_and_the_name_has_the_score(recorded):
    content, folder, _ = recorded
    metrics = json.loads((folder / "metrics.json").read_text())
    summary = content["summary"]
    for key in ("test/hmean", "val/hmean", "train/loss"):
        assert summary[key] == pytest.approx(metrics[key])
    name = summary["final_run_name"]
    assert name.startswith("ann_synthetic_dbnet_mobilenetv3-small-050_bs4_lr0.003_hmean")
    assert name.endswith(f"hmean{metrics['test/hmean']:.4f}")
    assert "SCORE_PLACEHOLDER" not in name
    assert name in json.dumps({k: v for k, v in content.items() if k != "summary"})


@pytest.mark.slow
def test_metric_names_are_standard_and_best_values_stand_beside_them(recorded):
    summary = recorded[0]["summary"]
    for key in summary:
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", key), key
    for key, better in BEST.items():
        assert isinstance(summary[key], (int, float)) and isinstance(summary[f"best/{key}"], (int, float))
        assert (summary[f"best/{key}"] <= summary[key]) if better == "min" else (summary[f"best/{key}"] >= summary[key])


@pytest.mark.slow
def test_the_printed_and_the_documented_sync_commands(recorded):
    _, folder, stderr = recorded
    cwd = folder.parents[2]
    printed = re.search(r"wandb sync (\S+)", stderr).group(1)
    with StandIn() as server:
        for place in (printed, "wandb/latest-run"):
            command = [str(Path(sys.executable).with_name("wandb")), "sync", "--include-synced", place]
            env = {**os.environ, **server.env()}
            done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=env)
            assert done.returncode == 0, done.stderr
            [stored] = server.runs.values()
            assert stored.complete and stored.summary["test/hmean"] == recorded[0]["summary"]["test/hmean"]
            assert {alias for a in server.artifacts.values() for alias in a.aliases} >= {"best", "last"}
            server.runs.clear()


@pytest.mark.slow
def test_without_a_key_it_says_what_it_did_instead(recorded):
    _, _folder, stderr = recorded
    assert "no WANDB_API_KEY" in stderr and "recording offline" in stderr
    assert "wandb sync" in stderr
    assert "from_env_file" in json.dumps(recorded[0])


@pytest.mark.slow
def test_poor_batches_are_logged_under_the_documented_keys(recorded):
    _, folder, _ = recorded
    logged = history(folder)
    for key in ("images", "count", "recall", "precision", "hmean"):
        assert any(f"problematic_batch_0_{key}" in row for row in logged)
    assert list(folder.glob("wandb/offline-run-*/files/media/images/problematic_batch_0_images*.jpg"))


@pytest.mark.slow
def test_the_summary_keeps_no_figure_of_a_single_batch(recorded):
    content, folder, _ = recorded
    assert {key for row in history(folder) for key in row if key.startswith("problematic_batch")}
    assert not [key for key in content["summary"] if key.startswith("problematic_batch")]


@pytest.mark.slow
def test_every_panel_of_the_dashboard_shows_what_a_run_logs(recorded):
    pytest.importorskip("wandb_workspaces", reason="make setup EXTRAS=dashboard installs it")
    content, folder, _ = recorded
    logged = {key for row in history(folder) for key in row} | set(content["summary"])
    panels = [panel for section in build_workspace("team", "project").sections for panel in section.panels]
    lines = [panel for panel in panels if type(panel).__name__ == "LinePlot"]
    assert {metric for panel in lines for metric in panel.y or ()} <= logged
    assert {metric for panel in panels for metric in getattr(panel, "metrics", None) or ()} <= logged
    [rates] = [panel.metric_regex for panel in lines if panel.metric_regex]
    found = {key for key in logged if re.fullmatch(rates, key)}
    assert found and found == {key for key in logged if key.startswith("lr-")}


@pytest.mark.slow
def test_a_failed_run_is_recorded_as_failed(tmp_path: Path):
    done = run("train", *TINY, "data.train=[{format:icdar,images:nowhere,annotations:nowhere}]", cwd=tmp_path)
    assert done.returncode == 2
    content = inspect(run_folder(tmp_path))
    assert content["exit_code"] == 2


def test_env_files_fill_in_what_the_environment_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env.local").write_text("WANDB_USER=local\nWANDB_API_KEY=\n")
    (tmp_path / ".env").write_text('WANDB_USER=shared\nWANDB_PROJECT = " receipts "\nWANDB_ENTITY=team\n')
    monkeypatch.setenv("WANDB_ENTITY", "mine")
    import os

    read = load_env_variables(tmp_path)
    assert [p.name for p in read] == [".env.local", ".env"]
    assert os.environ["WANDB_USER"] == "local"
    assert os.environ["WANDB_PROJECT"] == "receipts"
    assert os.environ["WANDB_ENTITY"] == "mine"
    assert "WANDB_API_KEY" not in os.environ
    for name in ("WANDB_USER", "WANDB_PROJECT"):
        monkeypatch.delenv(name)


def test_run_name_is_stable_short_and_file_safe():
    config = OmegaConf.create(
        {
            "name": "my exp/1", "logger": {"user": "ann"}, "optimizer": {"lr": 0.001}, "data": {"batch_size": 8},
            "model": {"architecture": "dbnet", "backbone": {"name": "resnet18.a1_in1k"}},
        }
    )  # fmt: skip
    name = generate_run_name(config)
    assert name == "ann_my-exp-1_dbnet_resnet18.a1-in1k_bs8_lr0.001_SCORE_PLACEHOLDER"
    config.name = "x" * 500
    assert len(generate_run_name(config)) < 128
    assert generate_run_name(OmegaConf.create({"logger": {"user": "ann"}})) == "ann_SCORE_PLACEHOLDER"


def test_score_replaces_the_placeholder_once():
    once = finished_name("a_SCORE_PLACEHOLDER", "hmean", 0.5)
    assert once == "a_hmean0.5000" == finished_name(once, "hmean", 0.5)
    assert finished_name(None, "hmean", 0.5) == "run_hmean0.5000"
    assert finished_name("a_SCORE_PLACEHOLDER", "hmean", None) == "a_noscore"


def test_documented_import_path():
    from ocr.utils import wandb_utils

    assert {"finalize_run", "generate_run_name", "load_env_variables"} <= set(wandb_utils.__all__)


def test_finalize_run_is_idempotent_and_leaves_out_what_is_not_finite(offline_run: wandb.Run):
    define_metrics(offline_run)
    for step, value in enumerate((0.3, 0.9, 0.5)):
        offline_run.log({"val/hmean": value, "trainer/global_step": step})
    metrics = {"val/hmean": 0.9, "test/hmean": 0.8125, "train/loss": float("nan"), "x": float("inf"), "y": "text"}
    for _ in range(2):
        finalize_run(metrics)
        assert offline_run.name == "ann_x_hmean0.8125"
        summary = dict(offline_run.summary)
        assert summary["val/hmean"] == 0.9 and summary["best/val/hmean"] == 0.9 and summary["test/hmean"] == 0.8125
        assert summary["left_out"] == ["train/loss", "x", "y"] and not {"train/loss", "x", "y"} & set(summary)
        assert summary["final_run_name"] == offline_run.name
    finalize_run({"val/cleval_hmean": 0.5}, metric_label="cleval", metric_keys=("val/cleval_hmean",))
    assert offline_run.name.endswith("cleval0.5000")


def test_finalize_run_without_a_run_does_nothing():
    assert wandb.run is None
    finalize_run({"val/hmean": 1.0})


def test_names_tags_group_and_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_TAGS", "from-environment, ")
    overrides = ["logger.tags=[experiment,baseline,' ablation']", "logger.group=mine", "logger.job_type=pretraining",
                 "logger.notes=why", "logger.run_name=called this", "logger.exp_version=v2"]  # fmt: skip
    with tracked_run(job_for(*overrides, folder=tmp_path / "run"), "training") as tracking:
        assert tracking is not None
        assert tracking.run.tags == ("experiment", "baseline", "ablation", "from-environment")
        assert tracking.run.name == "called-this_SCORE_PLACEHOLDER" and tracking.run.group == "mine"
        assert tracking.run.job_type == "pretraining" and tracking.run.notes == "why"
        assert tracking.run.config["logger"]["exp_version"] == "v2"
    assert inspect(tmp_path / "run")["tags"][-1] == "finished"


def test_offline_is_a_mode_of_the_run_not_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    with tracked_run(job_for("logger.offline=true", folder=tmp_path / "run"), "training") as tracking:
        assert tracking is not None and tracking.run.offline
        assert os.environ["WANDB_MODE"] == "online"
    assert json.loads((tmp_path / "run/wandb_run.json").read_text())["state"] == "offline"


def test_wandb_dir_holds_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "store"))
    with tracked_run(job_for(folder=tmp_path / "run"), "training"):
        pass
    assert list((tmp_path / "store/wandb").glob("offline-run-*/*.wandb")) and not (tmp_path / "run/wandb").exists()
    assert (tmp_path / "wandb/latest-run").resolve().name.startswith("offline-run-")


def test_off_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with tracked_run(job_for("logger.wandb.enabled=false", folder=tmp_path / "run"), "training") as tracking:
        assert tracking is None and wandb.run is None
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize("machine", ["", "api.wandb.ai", "localhost:8080"])
def test_a_key_of_wandb_login_is_found(machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """For the server in use: by default also under its earlier name, and another one with its port."""
    if ":" in machine:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://{machine}")
    assert stored_key() is None
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    stored = f"machine {machine or urlparse(server_url()).hostname}\n login user\n password "
    (tmp_path / "netrc").write_text(stored + "n" * 40 + "\n")
    assert stored_key() == "n" * 40
    (tmp_path / "netrc").write_text(stored + "short\n")
    with pytest.raises(UserError, match="malformed.*has 5.*wandb login --relogin"):
        stored_key()
    wandb.teardown()  # asking for the server has started a session, which keeps its environment
