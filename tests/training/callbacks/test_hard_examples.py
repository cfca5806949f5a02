from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from ocr.data.datasets import EpochSampler
from ocr.errors import UserError
from ocr.training.callbacks.hard_examples import HardExamples, difficulty


def test_difficulty_by_hand():
    """Found: 4 of 8 pixels and 4 beside them; all; nothing where nothing is; all of it masked."""
    targets = torch.zeros(4, 4, 4, 4, dtype=torch.uint8)
    targets[:, 1] = 1
    targets[:2, 0, :2] = 1
    targets[3, 0], targets[3, 1] = 1, 0
    logits = torch.full((4, 1, 4, 4), -5.0)
    logits[0, 0, 1:3] = 5
    logits[1, 0, :2] = 5
    assert difficulty(logits, targets).tolist() == [0.5, 0.0, 0.0, 0.0]


def drawn(sampler: EpochSampler, epochs: int = 40) -> Counter[int]:
    counts: Counter[int] = Counter()
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        counts.update(index for index, _ in sampler)
    return counts


def test_hard_images_come_more_often_and_sources_keep_their_shares():
    sampler = EpochSampler([10, 4], [10, 4], seed=1)
    plain = drawn(sampler)
    assert set(plain.values()) == {40}
    sampler.favour({0: 0.9, 1: 0.1, 12: 0.5}, 0.5)
    favoured = drawn(sampler)
    assert sum(favoured[i] for i in range(10)) == 400 and sum(favoured[i] for i in range(10, 14)) == 160
    assert favoured[0] > 1.2 * favoured[2] > 1.2 * favoured[1] and min(favoured.values()) > 10
    sampler.favour({0: 0.0}, 0.5)
    assert drawn(sampler) == plain, "where nothing is hard all are drawn alike"


def test_the_callback_tells_the_sampler_and_resumes():
    sampler = EpochSampler([6], [6], seed=1)
    trainer = SimpleNamespace(world_size=1, train_dataloader=SimpleNamespace(sampler=sampler))
    targets = torch.ones(2, 4, 4, 4, dtype=torch.uint8)
    logits = torch.stack([torch.full((1, 4, 4), 5.0), torch.full((1, 4, 4), -5.0)])
    batch = {"index": torch.tensor([2, 5]), "targets": targets}
    callback = HardExamples(share=1.0, momentum=0.5)
    for sign in (1, -1):  # first sample 5 is hard, then sample 2
        callback.on_train_epoch_start(trainer, None)
        callback.on_train_batch_end(trainer, None, {"logits": sign * logits}, batch, 0)
        callback.on_train_epoch_end(trainer, None)
        if sign == 1:
            assert callback.known == {2: 0.0, 5: 1.0}
            assert drawn(sampler)[2] == 0 and drawn(sampler)[5] > drawn(sampler)[0] > 0
    assert callback.known == {2: 0.5, 5: 0.5}
    again = HardExamples(1.0)
    again.load_state_dict(callback.state_dict())
    assert again.known == callback.known
    with pytest.raises(UserError, match="share"):
        HardExamples(1.5)
