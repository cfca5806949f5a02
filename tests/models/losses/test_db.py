from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ocr.models.detector import Maps
from ocr.models.losses.db import DBLoss, balanced_bce, dice, masked_l1

LOSS = DBLoss(5.0, 10.0, 1.0, 3.0, 0.01, 50, 0.3, 0.7, per_image=False)


def slow_balanced_bce(logits, target, mask, ratio, least):
    """The published definition, sorted and pixel by pixel."""
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    loss = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    loss *= mask  # weights
    positive, negative = (target == 1) & (mask > 0), (target == 0) & (mask > 0)
    k = min(int(max(positive.sum() * ratio, (positive.sum() + negative.sum()) * least)), int(negative.sum()))
    hardest = np.sort(loss[negative])[::-1][:k]
    return (loss[positive].sum() + hardest.sum()) / max(positive.sum() + k, 1)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.6, 1.0])
def test_balanced_bce_against_the_definition(share: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 20, 30)).astype(np.float32)
    target = (rng.random((2, 20, 30)) < share).astype(np.float32)
    mask = rng.choice([0, 1, 1, 1, 4], (2, 20, 30)).astype(np.float32)
    got = balanced_bce(*(torch.from_numpy(m).flatten(1) for m in (logits, target, mask)), 3.0, 0.01)
    expected = [slow_balanced_bce(*row, 3.0, 0.01) for row in zip(logits, target, mask)]
    assert got.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("case", ["no text", "all ignored", "all text", "usual"])
@pytest.mark.parametrize("certain", [1.0, 80.0])
def test_loss_is_finite_with_gradients_for_every_batch(case: str, certain: float):
    targets = torch.zeros(2, 4, 32, 32, dtype=torch.uint8)
    targets[:, 1] = case != "all ignored"
    if case in ("all text", "usual"):
        targets[:, 0] = 1 if case == "all text" else (torch.rand(2, 32, 32) < 0.2)
        targets[:, 2], targets[:, 3] = 128, 1
    maps = Maps(*(torch.randn(2, 1, 32, 32).mul(certain).requires_grad_() for _ in range(2)))
    terms = LOSS(maps, targets)
    assert all(torch.isfinite(v) for v in terms.values())
    terms["loss"].backward()
    assert all(torch.isfinite(m.grad).all() for m in maps)
    if case == "all ignored":
        assert terms["loss"].item() == 0
    if case == "no text":
        assert terms["loss_bce"].item() > 0 and terms["loss_dice"].item() == 0


def test_total_is_the_weighted_sum_and_perfect_maps_lose_nothing():
    targets = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    targets[:, 0, 4:8, 4:12], targets[:, 1], targets[:, 2], targets[:, 3] = 1, 1, 255, 1
    logits = torch.where(targets[:, :1] > 0, 30.0, -30.0)
    threshold = torch.full_like(logits, float(torch.logit(torch.tensor(0.7))))
    terms = LOSS(Maps(logits, threshold), targets)
    assert terms["loss"].item() == pytest.approx(0, abs=1e-4)
    terms = LOSS(Maps(torch.randn(1, 1, 16, 16), torch.randn(1, 1, 16, 16)), targets)
    parts = 5 * terms["loss_bce"] + 10 * terms["loss_l1"] + terms["loss_dice"]
    torch.testing.assert_close(terms["loss"], parts)


def test_per_image_every_image_counts_alike():
    targets = torch.zeros(3, 4, 32, 32, dtype=torch.uint8)
    targets[:, 1:] = 1
    targets[0, 0, :20], targets[1, 0, :2] = 1, 1  # much text, little, none
    maps = Maps(torch.randn(3, 1, 32, 32), torch.randn(3, 1, 32, 32))
    pooled, each = LOSS(maps, targets), replace(LOSS, per_image=True)(maps, targets)
    alone = [LOSS(Maps(maps.probability[[k]], maps.threshold[[k]]), targets[[k]]) for k in range(3)]
    for name, value in each.items():
        torch.testing.assert_close(value, torch.stack([terms[name] for terms in alone]).mean())
    assert abs(pooled["loss_bce"] - each["loss_bce"]) > 0.01


def test_l1_and_dice_by_hand():
    a, b, mask = torch.tensor([[0.5, 0.9]]), torch.tensor([[0.3, 0.1]]), torch.tensor([[1.0, 0.0]])
    assert masked_l1(a, b, mask).item() == pytest.approx(0.2)
    ones = torch.ones(1, 2)
    assert dice(ones, torch.tensor([[1.0, 0.0]]), ones).item() == pytest.approx(1 - 2 / 3, abs=1e-5)


def test_the_loss_is_in_float32_under_autocast():
    targets = torch.ones(1, 4, 16, 16, dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        maps = Maps(torch.randn(1, 1, 16, 16, dtype=torch.bfloat16), torch.randn(1, 1, 16, 16, dtype=torch.bfloat16))
        assert LOSS(maps, targets)["loss"].dtype == torch.float32
