"""The learning rate follows the samples per step by the rule that the config names."""

from __future__ import annotations

import pytest

from ocr.errors import UserError
from ocr.jobs.build import build_module
from ocr.training.optim.parameters import make_optimizer
from tests.composing import settings
from tests.tiny import TINY

SCALED = [*TINY, "optimizer.lr=1e-3", "optimizer.lr_batch_size=4", "+lr_multipliers.backbone=0.5"]


@pytest.mark.parametrize("rule, factor", [("linear", 4.0), ("sqrt", 2.0), ("none", 1.0)])
@pytest.mark.parametrize("optimizer", ["adamw", "lamb"])
def test_all_groups_follow_the_rule(optimizer: str, rule: str, factor: float):
    module = build_module(settings(*SCALED, f"optimizer={optimizer}", f"optimizer.scale_lr={rule}"))
    made = make_optimizer(module.network, module.optimizer_settings, samples=16)
    rates = {group["name"]: group["lr"] for group in made.param_groups}
    assert rates["head"] == pytest.approx(1e-3 * factor) and rates["backbone"] == pytest.approx(5e-4 * factor)


@pytest.mark.parametrize("wrong", ["optimizer.scale_lr=cubic", "optimizer.lr_batch_size=0"])
def test_a_rule_that_is_none_is_refused_by_name(wrong: str):
    with pytest.raises(UserError, match=wrong.partition("=")[0].replace(".", r"\.")):
        settings(*SCALED, wrong)


def test_a_rule_without_what_it_starts_from_is_refused():
    with pytest.raises(UserError, match=r"optimizer\.lr_batch_size is missing"):
        settings(*TINY, "optimizer.scale_lr=linear", "~optimizer.lr_batch_size")
    own = build_module(settings(*TINY, "~optimizer.scale_lr", "~optimizer.lr_batch_size"))
    assert own.optimizer_settings.scaling is None, "an optimizer's config of another project has neither"
