from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from ocr.errors import UserError
from ocr.training.callbacks.ema import warmed_up_ema
from ocr.training.optim.schedule import OptimizerConfig, ResumableSchedule, Schedule, freeze_parts, make_optimizer
from ocr.training.resume import find_checkpoint, with_earlier_overrides

CONFIG = OptimizerConfig("adamw", 1e-3, 1e-4, (0.9, 0.999), "cosine", 0.1, 0.9, 0.01, {}, "continue")


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_rate_rises_then_falls_to_its_end(schedule: str):
    config = replace(CONFIG, schedule=schedule)
    shares = [Schedule.planned(200, config)(step) for step in range(201)]
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


def test_a_step_of_lamb_is_a_share_of_each_filter():
    """What makes networks without batch norms trainable, whose filters differ by orders of magnitude."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 2, 2, stride=2))
    with torch.no_grad():
        model[0].weight[0] *= 1e3
        model[0].weight[1] = 0
        model[1].weight[:, 1] *= 1e3
        model[1].bias.zero_()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, replace(CONFIG, kind="lamb", lr=0.01, weight_decay=0.0))
    model(torch.randn(1, 3, 8, 8)).square().mean().backward()
    optimizer.step()
    (weight, bias, transposed, zero) = (new.detach() - old for old, new in zip(before, model.parameters()))

    strong = before[0][0].norm()
    assert (weight[0].norm() / strong).item() == pytest.approx(0.01, rel=1e-3), "the first axis has the filters"
    floor = 0.1 * (before[0].square().sum((1, 2, 3)).mean().sqrt())
    for k in (1, 2, 3):
        assert (weight[k].norm() / floor).item() == pytest.approx(0.01, rel=1e-3), "dead filters can come back"
    assert (transposed[:, 1].norm() / before[2][:, 1].norm()).item() == pytest.approx(0.01, rel=1e-3)
    assert (transposed[:, 0].norm() / transposed[:, 1].norm()).item() < 0.1, "the second axis of a transposed one"
    assert (bias.norm() / before[1].norm()).item() == pytest.approx(0.01, rel=1e-3), "a bias is taken whole"
    assert torch.allclose(zero.abs(), torch.full_like(zero, 0.01), rtol=1e-3), "from zero the step is Adam's"


def test_a_filter_without_a_gradient_comes_to_rest():
    """Momentum dies away as 0.9 ** step; its norm may neither keep the filter moving nor make the factor overflow."""
    torch.manual_seed(0)
    model = nn.Conv2d(2, 2, 1, bias=False)
    with torch.no_grad():
        model.weight[1] *= 100
    optimizer = make_optimizer(model, replace(CONFIG, kind="lamb", lr=0.01, weight_decay=0.0))
    for step in range(1200):
        if step == 60:
            resting = model.weight.detach()[1].clone()
        model.weight.grad = torch.randn_like(model.weight)
        model.weight.grad[1] *= step < 3
        optimizer.step()
    moved = (model.weight.detach()[1] - resting).norm().item()
    assert torch.isfinite(model.weight).all()
    assert moved < 0.01 * resting.norm().item()


def test_lamb_goes_on_from_its_state_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    config = replace(CONFIG, kind="lamb", lr=0.01)
    images = torch.randn(4, 2, 3, 8, 8)

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: torch.Tensor) -> None:
        for batch in batches:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()

    optimizer = make_optimizer(model, config)
    train(model, optimizer, images[:2])
    other = copy.deepcopy(model)
    resumed = make_optimizer(other, config)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, images[2:])
    train(other, resumed, images[2:])
    for a, b in zip(model.parameters(), other.parameters()):
        assert torch.equal(a, b)


def test_parts_of_a_network_have_rates_of_their_own():
    class Parts(nn.Sequential):
        def parts(self) -> dict:
            return {"body": [*self[0].parameters()], "head": [*self[1].parameters()]}

    model = Parts(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    groups = make_optimizer(model, replace(CONFIG, lr=1.0, lr_shares={"body": 0.1})).param_groups
    assert {g["name"]: g["lr"] for g in groups} == {"body": 0.1, "body_flat": 0.1, "head": 1.0, "head_flat": 1.0}
    frozen = make_optimizer(model, replace(CONFIG, lr_shares={"body": 0})).param_groups
    assert {g["name"] for g in frozen} == {"head", "head_flat"}
    freeze_parts(model, replace(CONFIG, lr_shares={"body": 0}))
    model(torch.randn(1, 3, 8, 8)).mean().backward()
    assert all(p.grad is None for p in model[0].parameters()) and all(p.grad is not None for p in model[1].parameters())
    with pytest.raises(UserError, match="no part bodi; this network has body, head"):
        make_optimizer(model, replace(CONFIG, lr_shares={"bodi": 1.0}))


@pytest.mark.parametrize(
    "change",
    [{"lr": 0}, {"schedule": "steps"}, {"warmup_share": 2}, {"resume_schedule": "warm"}, {"kind": "sgd"},
     {"lr_shares": {"a": -1}}],
)  # fmt: skip
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
    torch.save({}, run / "checkpoints/last.ckpt")
    (run / ".hydra").mkdir()
    (run / ".hydra/overrides.yaml").write_text("- experiment=sroie_cpu\n- optimizer.lr=0.1\n- data.root=x\n")
    wanted = ["experiment=sroie_cpu", "data.root=x", "optimizer.lr=1", f"resume='{run}/checkpoints/last.ckpt'"]
    for resume in (str(run), f"{run}/checkpoints/last.ckpt"):
        assert with_earlier_overrides([f"resume={resume}", "optimizer.lr=1"]) == wanted
    got = with_earlier_overrides(["resume=true", "name=exp", "optimizer.lr=1", f"paths.output={tmp_path}/runs"])
    assert got[:2] == wanted[:2] and got[-1] == wanted[-1]
    assert with_earlier_overrides(["optimizer.lr=1"]) == ["optimizer.lr=1"]
    assert with_earlier_overrides(["resume=null"]) == ["resume=null"]
    with pytest.raises(UserError, match="no checkpoints"):
        find_checkpoint(True, tmp_path / "nowhere")


class Run:
    """A scheduled optimizer as Lightning drives it."""

    def __init__(self, total: int, **change) -> None:
        self.config = replace(CONFIG, final_share=0.0, **change)
        self.optimizer = make_optimizer(nn.Linear(2, 2), self.config)
        self.schedule = ResumableSchedule(self.optimizer, self.config, total)

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
@pytest.mark.parametrize(("stop", "total"), [(4, 60), (4, 150), (10, 60), (50, 60), (50, 150), (99, 400)])
def test_a_raised_or_lowered_length_goes_on_without_a_jump_and_ends_at_the_final_rate(schedule, stop, total):
    run = Run(100, schedule=schedule)
    run.steps(stop)
    more = run.resumed(total, schedule=schedule)
    after = more.steps(total - stop)
    assert after[0] == pytest.approx(run.steps(1)[0]), "the rate that was to come next"
    if stop >= 10:  # of the warm-up
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
    assert run.resumed(200, resume_schedule="replan").steps(100) == Run(200).steps(200)[100:]
    assert run.resumed(200, resume_schedule="replan", lr=1e-4).steps(1) == [Run(200, lr=1e-4).steps(101)[100]]


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
