from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from timm.optim import Lamb
from torch import nn

from ocr.errors import UserError
from ocr.jobs.command_line.resume import with_earlier_overrides
from ocr.training.callbacks.ema import warmed_up_ema
from ocr.training.optim.parameters import OptimizerSettings, freeze_parts, make_optimizer
from ocr.training.optim.schedule import Schedule, WarmupDecay, make_scheduler
from ocr.training.resume import find_checkpoint

DECAY = {"decay": "cosine", "power": 0.9, "warmup_fraction": 0.1, "final_fraction": 0.01, "on_resume": "continue"}


def settings(lr: float = 1e-3, lr_multipliers: dict | None = None, **decay) -> OptimizerSettings:
    optimizer = partial(torch.optim.AdamW, lr=lr, weight_decay=1e-4, betas=(0.9, 0.999))
    return OptimizerSettings(optimizer, partial(WarmupDecay, **DECAY | decay), lr_multipliers or {})


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_rate_rises_then_falls_to_its_end(schedule: str):
    shares = [Schedule.planned(200, schedule, 0.9, 0.1, 0.01)(step) for step in range(201)]
    assert shares[0] == pytest.approx(1 / 20) and shares[19] == 1.0
    assert shares[:20] == sorted(shares[:20]) and shares[20:] == sorted(shares[20:], reverse=True)
    assert shares[-1] == pytest.approx(0.01)
    middle = 0.5 if schedule == "cosine" else 0.5**0.9
    assert shares[110] == pytest.approx(0.01 + 0.99 * middle)


def test_norms_and_biases_have_no_weight_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, free = make_optimizer(model, settings()).param_groups
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 1e-4
    assert len(free["params"]) == 3 and free["weight_decay"] == 0


def test_resume_takes_the_moments_of_the_former_lamb():
    """As runs wrote them until timm's LAMB took the place of the project's own."""
    model = nn.Linear(3, 2)
    lamb = partial(Lamb, lr=1e-3, max_grad_norm=None, trust_clip=True, always_adapt=True)
    optimizer = make_optimizer(model, OptimizerSettings(lamb, partial(WarmupDecay, **DECAY), {}))
    state = {k: {"step": torch.tensor(7.0), "mean": torch.full_like(p, 0.5), "square": torch.ones_like(p)}
             for k, p in enumerate(model.parameters())}  # fmt: skip
    groups = [{"params": [0], "name": "all", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.0},
              {"params": [1], "name": "all_flat", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.0}]  # fmt: skip
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    assert optimizer.param_groups[0]["step"] == 7 and optimizer.param_groups[0]["lr"] == 1e-4
    assert torch.equal(optimizer.state[model.weight]["exp_avg"], torch.full((2, 3), 0.5))
    before = model.weight.detach().clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, before)


def test_parts_of_a_network_have_rates_of_their_own():
    class Parts(nn.Sequential):
        def parts(self) -> dict:
            return {"body": [*self[0].parameters()], "head": [*self[1].parameters()]}

    model = Parts(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    groups = make_optimizer(model, settings(1.0, {"body": 0.1})).param_groups
    assert {g["name"]: g["lr"] for g in groups} == {"body": 0.1, "body_flat": 0.1, "head": 1.0, "head_flat": 1.0}
    freeze_parts(model, {"body": 0})
    frozen = make_optimizer(model, settings(1.0, {"body": 0})).param_groups
    assert {g["name"] for g in frozen} == {"head", "head_flat"}
    model(torch.randn(1, 3, 8, 8)).mean().backward()
    assert all(p.grad is None for p in model[0].parameters()) and all(p.grad is not None for p in model[1].parameters())
    with pytest.raises(UserError, match="no part bodi; this network has body, head"):
        make_optimizer(model, settings(1.0, {"bodi": 1.0}))


@pytest.mark.parametrize(
    "change",
    [{"lr": -1}, {"decay": "steps"}, {"warmup_fraction": 2}, {"on_resume": "warm"}, {"lr_multipliers": {"all": -1}}],
)
def test_wrong_settings(change: dict):
    with pytest.raises(UserError):
        chosen = settings(**change)
        make_scheduler(make_optimizer(nn.Linear(2, 2), chosen), chosen.schedule, 10)


def test_schedulers_of_torch_get_the_length_of_the_training():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    one_cycle = make_scheduler(optimizer, partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0), 30)
    assert one_cycle["interval"] == "step" and one_cycle["scheduler"].total_steps == 30
    cosine = make_scheduler(optimizer, partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=7), 30)
    assert cosine["interval"] == "step" and cosine["scheduler"].T_max == 7, "what the config gives counts"
    assert make_scheduler(optimizer, partial(torch.optim.lr_scheduler.StepLR, step_size=2), 30)["interval"] == "epoch"


def test_early_average_follows_the_weights_and_a_late_one_keeps_its_decay():
    average = warmed_up_ema(0.99)
    for count, moved in ((0, 0.9), (10**6, 0.01)):
        frozen = torch.rand(5)
        averages, values = [torch.zeros(1), frozen.clone()], [torch.ones(1), frozen]
        average(averages, values, count)
        assert averages[0].item() == pytest.approx(moved) and torch.equal(averages[1], frozen)
    batches = [torch.tensor(3)]
    average(batches, [torch.tensor(7)], 10**6)
    assert batches == [torch.tensor(7)], "a count of batches is not averaged"


def test_resumed_command_line_repeats_the_stopped_runs_overrides(tmp_path):
    run = tmp_path / "runs/exp/first"
    (run / "checkpoints").mkdir(parents=True)
    torch.save({}, run / "checkpoints/last.ckpt")
    (run / ".hydra").mkdir()
    (run / ".hydra/overrides.yaml").write_text("- experiment=sroie_cpu\n- optimizer.lr=0.1\n- data.root=x\n")
    wanted = ["experiment=sroie_cpu", "data.root=x", "optimizer.lr=1", f"resume='{run}/checkpoints/last.ckpt'"]
    for resume in (str(run), f"{run}/checkpoints/last.ckpt"):
        assert with_earlier_overrides([f"resume={resume}", "optimizer.lr=1"]) == wanted
    got = with_earlier_overrides(["resume=true", "name=exp", "optimizer.lr=1", f"paths.output={tmp_path}/runs"])
    assert got[:2] == wanted[:2] and got[-1] == wanted[-1]
    (run / ".hydra/overrides.yaml").write_text("- experiment=finetune\n- data=sroie\n")
    (tmp_path / "runs/exp").rename(tmp_path / "runs/finetune_sroie")
    got = with_earlier_overrides(["experiment=finetune", "data=sroie", "resume=true", f"paths.output={tmp_path}/runs"])
    assert got[-1] == f"resume='{tmp_path}/runs/finetune_sroie/first/checkpoints/last.ckpt'"
    assert with_earlier_overrides(["optimizer.lr=1"]) == ["optimizer.lr=1"]
    assert with_earlier_overrides(["resume=null"]) == ["resume=null"]
    with pytest.raises(UserError, match="no checkpoints"):
        find_checkpoint(True, tmp_path / "nowhere")


class Run:
    """A scheduled optimizer as Lightning drives it."""

    def __init__(self, total: int, **change) -> None:
        chosen = settings(**{"final_fraction": 0.0} | change)
        self.change = change
        self.optimizer = make_optimizer(nn.Linear(2, 2), chosen)
        self.schedule = make_scheduler(self.optimizer, chosen.schedule, total)["scheduler"]

    def steps(self, count: int) -> list[float]:
        """The rate of each of the next steps."""
        rates = []
        for _ in range(count):
            rates.append(self.optimizer.param_groups[0]["lr"])
            self.optimizer.step()
            self.schedule.step()
        return rates

    def resumed(self, total: int, **change) -> Run:
        other = Run(total, **change)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        other.schedule.load_state_dict(copy.deepcopy(self.schedule.state_dict()))
        return other


def test_a_run_that_is_resumed_with_its_own_length_has_the_rates_of_one_that_never_stopped():
    whole = Run(100).steps(100)
    for stop in (3, 40, 99):
        run = Run(100)
        assert run.steps(stop) + run.resumed(100).steps(100 - stop) == whole


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
@pytest.mark.parametrize("stop, total", [(4, 9), (4, 60), (4, 150), (10, 60), (50, 60), (50, 150), (99, 400)])
def test_a_raised_or_lowered_length_goes_on_without_a_jump_and_ends_at_the_final_rate(schedule, stop, total):
    run = Run(100, decay=schedule)
    run.steps(stop)
    more = run.resumed(total, decay=schedule)
    after = more.steps(total - stop)
    assert after[0] == pytest.approx(run.steps(1)[0]), "the rate that was to come next"
    if stop >= 10 or total <= 10:  # steps of the warm-up
        assert after == sorted(after, reverse=True)
    else:
        assert after[5] == 1e-3, "the warm-up is completed"
    assert more.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_rate_that_has_come_down_to_nothing_rises_again_without_a_jump(caplog):
    run = Run(100)
    run.steps(100)
    with caplog.at_level("INFO"):
        after = run.resumed(200).steps(101)
    fresh = Run(200).steps(200)
    assert "goes on with 5e-05 after step 100, rises to 0.0005 until step 110, to step 200" in caplog.text
    assert after[:10] == sorted(after[:10]) and after[0] == pytest.approx(0.1 * fresh[110])
    assert after[9] == pytest.approx(fresh[110]) and max(after) == pytest.approx(fresh[110])
    assert after[10:] == sorted(after[10:], reverse=True) and after[-1] == pytest.approx(0, abs=1e-9)


def test_epochs_that_became_so_short_that_no_step_is_left_are_warned_about(caplog):
    run = Run(100)
    run.steps(100)
    run.resumed(120)
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    assert run.resumed(12).steps(3) == [0.0] * 3
    assert "0 from step 100 on, for all epochs together have 12 steps now" in caplog.text


def test_a_schedule_can_be_planned_again_for_the_new_length():
    run = Run(100)
    run.steps(100)
    assert run.resumed(200, on_resume="replan").steps(100) == Run(200).steps(200)[100:]
    assert run.resumed(200, on_resume="replan", lr=1e-4).steps(1) == [Run(200, lr=1e-4).steps(101)[100]]


def test_a_new_peak_that_changes_nothing_is_said(caplog):
    run = Run(100)
    run.steps(50)
    with caplog.at_level("INFO"):
        assert run.resumed(100, lr=1.0).steps(50) == run.resumed(100).steps(50)
    assert "the new optimizer.lr would need replan" in caplog.text


def test_a_checkpoint_without_a_stored_schedule_is_replanned():
    run = Run(100)
    run.steps(50)
    state = run.schedule.state_dict() | {"lr_lambdas": [None, None]}
    other = Run(200)
    other.optimizer.load_state_dict(run.optimizer.state_dict())
    other.schedule.load_state_dict(state)
    assert other.steps(1) == Run(200).steps(51)[50:]
