"""The form of Compose: what it says, the command it stands for, and how it is checked."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ocr.console.form import WANDB_MODES, Composition, read_command, read_form
from ocr.console.settings import read_settings
from ocr.errors import UserError
from ocr.jobs.command_line.overrides import value_of
from tests.console.serving import served


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return read_settings([])


def as_form(composition: Composition) -> dict[str, str]:
    values = {f"set:{name}": value for name, value in composition.values.items()}
    return values | {"wandb": composition.wandb, "sweep": composition.sweep, "more": shlex.join(composition.more)}


def test_a_form_and_its_command_say_the_same(settings: Any):
    for mode in WANDB_MODES:
        given = Composition(
            {"data": "folder", "data.root": "my receipts/영수증", "optimizer.lr": "1e-3", "logger.tags": "[a,b c]"},
            mode, "", ["callbacks.ema=null", "data.train=[{format: synthetic, count: 8}]"],
        )  # fmt: skip
        assert read_form(as_form(given), settings) == given
        assert read_command(given.command, settings) == given
        assert shlex.split(given.command)[2:] == given.arguments
    sweep = Composition({"optimizer.lr": "1e-3,2e-3"}, "off", "grid")
    assert "-m" in sweep.arguments and read_command(sweep.command, settings) == sweep
    pasted = "OMP_NUM_THREADS=1 .venv/bin/python runners/train.py \\\n  data=sroie 'name=a b' # mine"
    assert read_command(pasted, settings).values == {"data": "sroie", "name": "a b"}
    for exact in ("logger.wandb.enabled=true", "logger.offline=true", "logger.notes=", 'logger.notes="null"',
                  'resume="true"', 'logger.notes="[a,b]"', "name=a#b", 'logger.notes=" x "'):  # fmt: skip
        read = read_command(shlex.join(["train.py", exact, "seed=3"]), settings)
        assert [value_of(a) for a in sorted(read.arguments)] == [value_of(a) for a in sorted([exact, "seed=3"])], exact
    one = read_command("train.py -m +sweep=grid 'logger.notes=\"a,b\"' seed=1,2", settings)
    assert sorted(one.arguments) == ["+sweep=grid", "-m", 'logger.notes="a,b"', "seed=1,2"]
    for wrong in ("python runners/test.py ckpt_path=x", "python runners/train.py 'x", "train.py -m seed=1,2",
                  "train.py +sweep=grid", "train.py seed=1 && ls", "train.py seed=1 > log",
                  "train.py --cfg job"):  # fmt: skip
        with pytest.raises(UserError):
            read_command(wrong, settings)


@pytest.mark.slow
def test_a_form_is_checked_as_a_terminal_checks_it(tmp_path: Path):
    with served(tmp_path) as console:
        form = {"set:trainer.max_epochs": "x", "set:optimizer.lr": "-1", "more": "trainer.max_epoch=3"}
        problems = json.loads(console.ask("/compose/check", form)[1])["problems"]
        assert [problem["key"] for problem in problems] == [""] and "did you mean" in problems[0]["text"]
        form["more"] = ""
        problems = json.loads(console.ask("/compose/check", form)[1])["problems"]
        assert {problem["key"] for problem in problems} >= {"trainer.max_epochs", "optimizer.lr"}
        status, page = console.ask("/compose", form)
        assert status == 422 and "optimizer.lr" in page and not (tmp_path / "runs/.console").exists()
        answer = json.loads(console.ask("/compose/check", {"set:trainer.max_epochs": "2", "wandb": "offline"})[1])
        assert answer["problems"] == [] and answer["values"]["trainer.max_epochs"] == "2"
        assert answer["command"] == (
            "python runners/train.py trainer.max_epochs=2 logger.wandb.enabled=true logger.offline=true"
        )
        [problem] = json.loads(console.ask("/compose/check", {"set:data.root": "/etc"})[1])["problems"]
        assert problem["key"] == "data.root" and "none of the folders" in problem["text"]
        assert console.ask("/compose", {"more": "-m seed=1,2"})[0] == 400
        texts = ("logger.notes", "logger.entity", "logger.project_name", "logger.tags")  # an answer of 70 kB
        long = {f"set:{name}": "z" * 18_000 if name != "logger.tags" else f"[{'z' * 18_000}]" for name in texts}
        for seed in ("-5", "5", "-6", "6"):  # each composition gets its own answer
            answer = json.loads(console.ask("/compose/check", long | {"set:seed": seed})[1])
            assert [problem["key"] for problem in answer["problems"]] == (["seed"] if seed[0] == "-" else []), seed
            assert seed[0] == "-" or answer["values"]["seed"] == seed
