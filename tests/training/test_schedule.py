from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from ocr.errors import UserError
from ocr.training.ema import warmed_up_ema
from ocr.training.resume import find_checkpoint, with_earlier_overrides
from ocr.training.schedule import OptimizerConfig, learning_rate_share, make_optimizer

CONFIG = OptimizerConfig("adamw", 1e-3, 1e-4, (0.9, 0.999), "cosine", 0.1, 0.9, 0.01, {})


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_rate_rises_then_falls_to_its_end(schedule: str):
    config = replace(CONFIG, schedule=schedule)
    shares = [learning_rate_share(step, 200, config) for step in range(201)]
    assert shares[0] == pytest.approx(1 / 20) and shares[19] == 1.0
    assert shares[:20] == sorted(shares[:20]) and shares[20:] == sorted(shares[20:], reverse=True)
    assert shares[-1] == pytest.approx(0.01)
    middle = 0.5 if schedule == "cosine" else 0.5**0.9
    assert shares[110] == pytest.approx(0.01 + 0.99 * middle)


def test_norms_and_biases_have_no_weight_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, free = make_optimizer(model, CONFIG).param_groups
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 1e-4
    assert len(free["params"]) == 3 and free["weight_decay"] == 0


@pytest.mark.parametrize("change", [{"lr": 0}, {"schedule": "steps"}, {"warmup_share": 2}])
def test_wrong_settings(change: dict):
    with pytest.raises(UserError):
        replace(CONFIG, **change)


def test_early_average_follows_the_weights_and_a_late_one_keeps_its_decay():
    average = warmed_up_ema(0.99)
    old, new = torch.zeros(1), torch.ones(1)
    assert average(old, new, 0).item() == pytest.approx(0.9)
    assert average(old, new, 10**6).item() == pytest.approx(0.01)


def test_resumed_command_line_repeats_the_stopped_runs_overrides(tmp_path):
    run = tmp_path / "runs/exp/first"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/last.ckpt").touch()
    (run / ".hydra").mkdir()
    (run / ".hydra/overrides.yaml").write_text("- experiment=exp\n- optimizer.lr=0.1\n- +data.root=x\n")
    wanted = ["experiment=exp", "+data.root=x", "optimizer.lr=1", f"resume='{run}/checkpoints/last.ckpt'"]
    for resume in (str(run), f"{run}/checkpoints/last.ckpt"):
        assert with_earlier_overrides([f"resume={resume}", "optimizer.lr=1"]) == wanted
    got = with_earlier_overrides(["resume=true", "name=exp", "optimizer.lr=1", f"paths.output={tmp_path}/runs"])
    assert got[:2] == wanted[:2] and got[-1] == wanted[-1]
    assert with_earlier_overrides(["optimizer.lr=1"]) == ["optimizer.lr=1"]
    assert with_earlier_overrides(["resume=null"]) == ["resume=null"]
    with pytest.raises(UserError, match="no checkpoints"):
        find_checkpoint(True, tmp_path / "nowhere")
