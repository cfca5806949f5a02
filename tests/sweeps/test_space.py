"""Search spaces from overrides, and the settings of a sweep."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

pytest.importorskip("optuna", reason="sweeps need Optuna: make setup EXTRAS=study")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ocr.errors import UserError
from ocr.jobs.sweep.settings import Objective, read_sweep
from ocr.jobs.sweep.space import distribution_of, grid_cells, parse, split_overrides
from tests.conftest import ROOT

PARSER = OverridesParser.create()
PRESETS = sorted(p.stem for p in (ROOT / "configs/sweep").glob("*.yaml") if p.stem not in ("default", "grid"))


def with_sweep(*overrides: str) -> Any:
    OmegaConf.register_new_resolver("token", lambda: "t", use_cache=True, replace=True)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", overrides=["paths.run_dir=there", *overrides])


@pytest.mark.parametrize(
    "override, distribution",
    [
        ("x=a,b", CategoricalDistribution(["a", "b"])),
        ("x=choice(1,2.5)", CategoricalDistribution(["1", "2.5"])),
        ("x=[0.9,1.1],[0.5,2.0]", CategoricalDistribution(["[0.9,1.1]", "[0.5,2.0]"])),
        ("x='a,b',c", CategoricalDistribution(["'a,b'", "c"])),
        ("x=range(1,9,2)", IntDistribution(1, 7, step=2)),
        ("x=interval(0.1,0.5)", FloatDistribution(0.1, 0.5)),
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
    ],
)
def test_overrides_with_several_values_are_distributions(override: str, distribution: Any):
    assert distribution_of(PARSER.parse_override(override)) == distribution


@pytest.mark.parametrize("override", ["x=interval(1e-2,1e-3)", "x=tag(log,interval(0.0,1.0))"])
def test_an_interval_that_cannot_be_drawn_from_is_named(override: str):
    with pytest.raises(UserError) as raised:
        distribution_of(PARSER.parse_override(override))
    assert str(raised.value).startswith(f"{override}: ") and "\n" not in str(raised.value)


def test_a_grid_has_every_combination_and_no_interval():
    space = {o.get_key_element(): distribution_of(o) for o in PARSER.parse_overrides(["x=a,b", "y=range(0,3)"])}
    assert grid_cells(space) == [{"x": x, "y": y} for x in "ab" for y in range(3)]
    with pytest.raises(UserError, match="z is an interval: a grid needs single values"):
        grid_cells(space | {"z": FloatDistribution(0, 1)})


def test_the_command_line_wins_over_the_preset_and_the_last_word_over_those_before():
    preset = parse(["x=interval(0.0,1.0)", "y=1,2", "z=a,b"], PARSER)
    line = PARSER.parse_overrides(["x=3", "y=4", "y=5,6", "+sweep=optimizer", "sweep.seeds=2", "w=7"])
    single, several = split_overrides([*preset, *line])
    assert single == ["x=3", "w=7"] and [o.input_line for o in several] == ["y=5,6", "z=a,b"]
    for wrong in ("x=1", "x=a,"):
        with pytest.raises(UserError, match=r"sweep\.space: "):
            parse([wrong], PARSER)


def test_overrides_keep_their_order_and_deletions():
    line = ["a.b=1", "a={b:2}", "a.b=3", "~callbacks.ema", "+callbacks.ema={x:1}", "lr=1,2", "lr=4"]
    assert split_overrides(PARSER.parse_overrides(line)) == (
        ["a.b=1", "a={b:2}", "a.b=3", "~callbacks.ema", "+callbacks.ema={x:1}", "lr=4"], [],
    )  # fmt: skip
    single, several = split_overrides(PARSER.parse_overrides(["lr=4", "lr=1,2"]))
    assert single == [] and [o.input_line for o in several] == ["lr=1,2"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_with_both_ends_of_its_space(preset: str):
    settings, objective = read_sweep(with_sweep(f"+sweep={preset}"))
    assert objective == Objective("val/hmean", True, 42) and settings.n_trials and settings.sampler["_target_"]
    ends: list[list[str]] = [[], []]
    for override in parse(settings.space, PARSER):
        distribution: Any = distribution_of(override)
        values = getattr(distribution, "choices", None) or (distribution.low, distribution.high)
        for end, value in zip(ends, (values[0], values[-1])):
            end.append(f"{override.get_key_element()}={value}")
    for end in ends:
        with_sweep(*end)
    assert all("#" in line for line in (ROOT / f"configs/sweep/{preset}.yaml").read_text().splitlines()[:1])


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["optimized_metric=test/hmean"], "a sweep chooses by a figure of validation"),
        (["sweep.n_trials=0"], "sweep.n_trials must be at least 1"),
        (["sweep.workers=some"], "sweep.workers must be"),
        (["sweep.gpus_per_job=0"], "sweep.gpus_per_job must be more than 0"),
        (["+sweep.trials=3"], "did you mean 'sweep.n_trials'"),
    ],
)
def test_wrong_settings_of_a_sweep_are_named(overrides: list[str], words: str):
    with pytest.raises(UserError) as raised:
        read_sweep(with_sweep("+sweep=optimizer", *overrides))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    "overrides, maximize",
    [
        ([], True),
        (["callbacks.checkpoint.mode=min"], False),
        (["callbacks.checkpoint.monitor=train/loss", "callbacks.checkpoint.mode=min"], True),
        (["optimized_metric=val/loss"], False),
    ],
)
def test_the_direction_is_that_of_the_metric_itself(overrides: list[str], maximize: bool):
    assert read_sweep(with_sweep("+sweep=grid", *overrides))[1].maximize == maximize
