"""What a run records of its config, what it refuses, and where each setting comes from."""

from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ocr.errors import UserError
from ocr.jobs.settings import TrainSettings, read
from ocr.tracking.credentials import key_fault, load_env_variables, read_environment
from ocr.tracking.record import config_hash
from ocr.tracking.schema import check_logger
from ocr.utils.config import plain_config
from tests.composing import composed
from tests.conftest import ROOT


def hash_of(*overrides: str) -> str:
    return config_hash(plain_config(composed(*overrides)))


class Colour(Enum):
    RED = 1


def test_one_node_that_cannot_be_resolved_leaves_the_others_resolved():
    config = OmegaConf.create(
        {"a": {"b": 1, "c": "${a.b}"}, "cwd": "${hydra:runtime.cwd}", "gone": ["${nowhere.at.all}", "${a.b}"], 7: "x"}
    )
    assert plain_config(config) == {
        "a": {"b": 1, "c": 1}, "cwd": "${hydra:runtime.cwd}", "gone": ["${nowhere.at.all}", 1], "7": "x",
    }  # fmt: skip


def test_objects_become_names_and_everything_is_json():
    config = OmegaConf.create(
        {"f": os.path.join, "o": object(), "e": Colour.RED, "p": Path("x/y"), "n": float("nan"), "m": "???", "z": None},
        flags={"allow_objects": True},
    )
    plain = plain_config(config)
    assert plain == {
        "f": "posixpath.join", "o": "builtins.object", "e": "RED", "p": "x/y", "n": "nan", "m": "???", "z": None,
    }  # fmt: skip
    json.dumps(plain, allow_nan=False)


def test_a_config_that_contains_itself_ends():
    assert plain_config(OmegaConf.create({"a": {"b": "${a}"}}))


def test_whole_config_is_plain():
    text = json.dumps(plain_config(composed()), allow_nan=False)
    assert "${" not in text and hash_of() == hash_of("logger.tags=[x]")
    assert hash_of() != hash_of("optimizer.lr=1")


@pytest.mark.parametrize(
    "change",
    ["trainer.max_epochs=7", "trainer.precision=32-true", "callbacks.ema.multi_avg_fn.decay=0.5", "callbacks.ema=null",
     "trainer=ddp_cpu"],
)  # fmt: skip
def test_the_hash_tells_settings_of_trainer_and_callbacks_apart(change: str):
    assert hash_of(change) != hash_of()


@pytest.mark.parametrize("folder", ["/elsewhere/run", ".", "runs/x/y"])
def test_the_hash_is_that_of_the_settings_wherever_the_run_lies(folder: str):
    config = composed("+callbacks.own={_target_: x, file: '${paths.run_dir}/own.txt'}")
    moved = composed("+callbacks.own={_target_: x, file: '${paths.run_dir}/own.txt'}", f"paths.run_dir='{folder}'")
    assert plain_config(moved)["callbacks"]["checkpoint"]["dirpath"] == f"{folder}/checkpoints"
    assert config_hash(plain_config(moved)) == config_hash(plain_config(config))


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["logger.per_batch_image_logging.recall_threshold=1.5"], ["recall_threshold must be at most 1, got 1.5"]),
        (["+logger.per_batch_image_logging.recall_treshold=0.5"], ["did you mean", "recall_threshold"]),
        (["logger.per_batch_image_logging.enabled=maybe"], ["enabled must be true or false, got 'maybe'"]),
        (["logger.tags=baseline"], ["logger.tags must be a list like [a,b]"]),
        (["logger.init_timeout=0"], ["logger.init_timeout must be at least 1, got 0"]),
        (["logger.artifacts.checkpoints=always"], ["must be one of end, best, none"]),
        (["logger.wandb=true"], ["logger.wandb must be a group of settings"]),
        (["logger.project_name=null"], ["logger.project_name must be text"]),
        (["+trainer.max_epoch=3"], ["no setting 'trainer.max_epoch'", "did you mean 'trainer.max_epochs'"]),
        (["trainer.max_epochs=many"], ["trainer.max_epochs must be a whole number, got 'many'"]),
        (["+optimizer.learning_rate=1"], ["no setting 'optimizer.learning_rate'"]),
        (["model.loss.k=[1]"], ["model.loss.k must be"]),
        (["+callbacks.checkpoint.filname=x"], ["did you mean 'callbacks.checkpoint.filename'"]),
        (["callbacks.progress._target_=ocr.nowhere.Thing"], ["callbacks.progress._target_"]),
        (["optimizer.lr=-1", "logger.finish_timeout=0"], ["optimizer.lr must be at least 0", "logger.finish_timeout"]),
    ],
)  # fmt: skip
def test_a_faulty_config_is_refused_before_wandb(overrides: list[str], words: list[str]):
    with pytest.raises(UserError) as caught:
        read(composed(*overrides), TrainSettings)
    for word in words:
        assert word in str(caught.value)


def test_the_default_config_and_every_choice_are_valid():
    for group in ("model", "trainer", "data", "debug", "experiment"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            if path.stem != "default":
                choice = f"{group}={path.stem}"
                more = ["data.root=x"] if group in ("data", "experiment") else []
                read(composed(choice, *more), TrainSettings)
    checked = check_logger(plain_config(composed().logger))
    assert checked.per_batch_image_logging.recall_threshold == 0.8 and checked.offline is None


@pytest.mark.parametrize(
    "key, words",
    [
        ("a" * 40, None), ("A1_-" * 30, None), ("local-" + "b" * 40, None), ("a.b-c.d_e", None),
        ("a" * 39, "40+ characters, has 39"), ("", "empty"), (" " + "a" * 40, "white space or quotes"),
        ("'" + "a" * 40 + "'", "white space or quotes"), ("a" * 20 + " " + "b" * 20, "may only contain"),
    ],
)  # fmt: skip
def test_the_form_of_a_key(key: str, words: str | None):
    fault = key_fault(key)
    assert (fault is None) if words is None else words in fault
    assert fault is None or len(key) < 10 or key not in fault


def test_precedence_is_command_line_environment_env_local_env_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def project(*overrides: str, env: str = "", local: str = "", shared: str = "") -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WANDB_PROJECT", env)
            (tmp_path / ".env.local").write_text(f"WANDB_PROJECT={local}\n")
            (tmp_path / ".env").write_text(f"WANDB_PROJECT={shared}\n")
            load_env_variables(tmp_path)
            if not os.environ["WANDB_PROJECT"]:
                patch.delenv("WANDB_PROJECT")
            return composed(*overrides).logger.project_name

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    assert project() == "receipt-text-recognition-ocr-project"
    assert project(shared="d") == "d"
    assert project(shared="d", local="c") == "c"
    assert project(shared="d", local="c", env="b") == "b"
    assert project("logger.project_name=a", shared="d", local="c", env="b") == "a"


@pytest.mark.parametrize(
    "env, local, overrides, enabled",
    [
        ({}, "", [], True),
        ({"WANDB_ENABLED": "no"}, "", [], False),
        ({"WANDB_DISABLED": "true"}, "", [], False),
        ({"WANDB_DISABLED": "1"}, "WANDB_ENABLED=true", [], False),
        ({"WANDB_ENABLED": "ON"}, "WANDB_DISABLED=true", [], True),
        ({"WANDB_ENABLED": "true", "WANDB_DISABLED": "true"}, "", [], False),
        ({"WANDB_DISABLED": "false"}, "", [], True),
        ({"WANDB_MODE": "disabled"}, "", [], False),
        ({}, "WANDB_MODE=disabled", [], False),
        ({"WANDB_DISABLED": "true"}, "", ["logger.wandb.enabled=true"], True),
        ({"WANDB_ENABLED": "true"}, "", ["logger.wandb.enabled=false"], False),
    ],
)
def test_the_switches_that_wandb_ignores(
    env: dict[str, str], local: str, overrides: list[str], enabled: bool, tmp_path: Path, monkeypatch
):
    for name in ("WANDB_ENABLED", "WANDB_DISABLED", "WANDB_MODE"):
        monkeypatch.setenv(name, env.get(name, ""))
    (tmp_path / ".env.local").write_text(local)
    load_env_variables(tmp_path)
    if not os.environ["WANDB_ENABLED"]:
        monkeypatch.delenv("WANDB_ENABLED")
    assert composed(*overrides).logger.wandb.enabled is enabled


def test_a_switch_that_is_neither_true_nor_false_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_DISABLED", "perhaps")
    with pytest.raises(UserError, match="WANDB_DISABLED is 'perhaps': write true or false"):
        load_env_variables(tmp_path)
    monkeypatch.setenv("WANDB_DISABLED", "")
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match="WANDB_MODE"):
        load_env_variables(tmp_path)


def test_white_space_and_quotes_are_removed_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_API_KEY", "  '" + "k" * 40 + "'\n")
    monkeypatch.delenv("WANDB_NOTES", raising=False)
    (tmp_path / ".env").write_text("WANDB_NOTES='\"quoted twice\"'\n")
    report = read_environment(tmp_path)
    assert os.environ["WANDB_API_KEY"] == "k" * 40 and os.environ["WANDB_NOTES"] == "quoted twice"
    assert {"WANDB_API_KEY", "WANDB_NOTES"} <= set(report.cleaned)
    assert report.sources["WANDB_NOTES"] == tmp_path / ".env"
    monkeypatch.delenv("WANDB_NOTES")
