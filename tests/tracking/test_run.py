"""Real W&B runs, offline, read back with wandb's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ocr.tracking.credentials import load_env_variables
from ocr.tracking.naming import finished_name, generate_run_name
from tests.tiny import TINY, inspect, run, run_folder


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
    assert "data_fingerprint" in json.dumps(config) and "git_commit" in json.dumps(config)


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
def test_without_a_key_it_says_what_it_did_instead(recorded):
    _, _folder, stderr = recorded
    assert "no WANDB_API_KEY" in stderr and "recording offline" in stderr
    assert "wandb sync" in stderr
    assert "from_env_file" in json.dumps(recorded[0])


@pytest.mark.slow
def test_poor_batches_are_logged_under_the_documented_keys(recorded):
    content, folder, _ = recorded
    text = json.dumps(content["summary"])
    for key in ("images", "count", "recall", "precision", "hmean"):
        assert f"problematic_batch_0_{key}" in text
    assert list(folder.glob("wandb/offline-run-*/files/media/images/problematic_batch_0_images*.jpg"))


@pytest.mark.slow
def test_a_failed_run_is_recorded_as_failed(tmp_path: Path):
    done = run("train", *TINY, "data.train=[{format:icdar,images:nowhere,annotations:nowhere}]", cwd=tmp_path)
    assert done.returncode == 2
    content = inspect(run_folder(tmp_path))
    assert content["exit_code"] == 2


def test_wandb_can_be_switched_off_three_ways(tmp_path: Path):
    from hydra import compose, initialize_config_dir

    from tests.conftest import ROOT

    def enabled(*overrides: str) -> bool:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            return compose("train", overrides=list(overrides)).logger.wandb.enabled

    with pytest.MonkeyPatch.context() as patch:
        assert enabled() is True
        patch.setenv("WANDB_ENABLED", "false")
        assert enabled() is False
        assert enabled("logger.wandb.enabled=true") is True


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
