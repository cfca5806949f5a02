"""A training that stops anywhere goes on as if it had not: the order, the weights and the losses."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from ocr.jobs.build import build_callbacks, build_data, build_module
from ocr.tracking.ending import Terminated, signals_raise
from ocr.training.callbacks.position import EpochPosition
from ocr.training.process import prepare_process
from ocr.training.trainer import build_trainer
from tests.composing import settings
from tests.tiny import TINY

SAMPLES, BATCH, EPOCHS = 20, 4, 3  # 5 steps per epoch
SMALL = [
    *TINY, f"data.train=[{{format:synthetic,count:{SAMPLES},seed:1}}]", f"data.batch_size={BATCH}", "data.test=[]",
    f"trainer.max_epochs={EPOCHS}", "trainer.precision=32-true", "model.compile=false",
    "callbacks.progress=null", "callbacks.learning_rate=null", "+model.backbone.kwargs.drop_path_rate=0.5",
]  # fmt: skip


class Watch(L.Callback):
    """Losses and samples per step; terminates the process in the middle of a step."""

    def __init__(self, stop_at: int | None) -> None:
        self.stop_at = stop_at
        self.steps: dict[int, tuple[float, list[int]]] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any):
        self.steps[trainer.global_step] = (float(outputs["loss"]), batch["index"].tolist())
        if trainer.global_step == self.stop_at and not trainer.is_last_batch:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def fit(folder: Path, *changes: str, stop_at: int | None = None, resume: bool = False) -> tuple[Watch, dict[str, Any]]:
    """Train, from ``last.ckpt`` if asked for; what was seen, and ``last.ckpt`` afterwards."""
    prepare_process()
    given = settings(*SMALL, *changes, f"paths.run_dir={folder}")
    L.seed_everything(given.seed, verbose=False)
    module = build_module(given)
    data = build_data(given.data, module.pipeline, given.seed).load("train", "val")
    watch = Watch(stop_at)
    trainer = build_trainer(given.trainer, [*build_callbacks(given.callbacks), EpochPosition(data), watch])
    last = folder / "checkpoints/last.ckpt"
    with signals_raise():
        if stop_at is None:
            trainer.fit(module, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
        else:
            with pytest.raises(Terminated):
                trainer.fit(module, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
    return watch, torch.load(last, weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Watch, dict[str, Any]]:
    """The training that nothing stops."""
    return fit(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("step, workers", [(3, 0), (7, 2), (5, 2)], ids=["first epoch", "workers", "end of an epoch"])
def test_a_stopped_training_goes_on_to_the_bit(step: int, workers: int, whole, tmp_path: Path):
    before, _ = fit(tmp_path, stop_at=step)
    after, last = fit(tmp_path, f"data.num_workers={workers}", resume=True)
    expected, weights = whole
    assert before.steps | after.steps == expected.steps and len(expected.steps) == SAMPLES // BATCH * EPOCHS
    assert last["state_dict"].keys() == weights["state_dict"].keys()
    assert all(torch.equal(last["state_dict"][key], weights["state_dict"][key]) for key in last["state_dict"])


@pytest.mark.parametrize("size, steps", [(2, [2] * 4), (3, [3, 3, 2]), (8, [8]), (16, [8])])
def test_each_sample_of_an_epoch_is_seen_once_whatever_the_batches(size: int, steps: list[int], tmp_path: Path):
    before, _ = fit(tmp_path, stop_at=3)
    after, _ = fit(tmp_path, f"data.batch_size={size}", "trainer.max_epochs=1", resume=True)
    resumed = [samples for _, samples in after.steps.values()]
    assert [len(samples) for samples in resumed] == steps
    seen = [index for watch in (before, after) for _, samples in watch.steps.values() for index in samples]
    assert sorted(seen) == list(range(SAMPLES))


def test_other_data_in_mid_epoch_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    fit(tmp_path, stop_at=3)
    fewer = "data.train=[{format:synthetic,count:10,seed:1}]"
    after, _ = fit(tmp_path, fewer, "trainer.max_epochs=1", resume=True)
    assert "samples_per_epoch 20 -> 10" in caplog.text and after.steps == {}


def test_steps_as_the_limit_go_on_after_an_epoch(tmp_path: Path):
    expected, weights = fit(tmp_path / "whole", "trainer.max_steps=12")
    before, _ = fit(tmp_path / "stopped", "trainer.max_steps=12", stop_at=5)
    after, last = fit(tmp_path / "stopped", "trainer.max_steps=12", resume=True)
    assert before.steps | after.steps == expected.steps and len(after.steps) == 7
    assert all(torch.equal(last["state_dict"][key], weights["state_dict"][key]) for key in last["state_dict"])


@pytest.mark.parametrize("size", [2, 8])
def test_the_learning_rate_ends_where_it_would_have_with_batches_of_another_size(size: int, tmp_path: Path):
    rates = fit(tmp_path / "whole")[1]["lr_schedulers"][0]["_last_lr"]
    fit(tmp_path / "stopped", stop_at=6)
    after, last = fit(tmp_path / "stopped", f"data.batch_size={size}", resume=True)
    planned = last["lr_schedulers"][0]["lr_lambdas"][0]["total"]
    assert planned == max(after.steps) == last["global_step"]
    assert last["lr_schedulers"][0]["_last_lr"] == pytest.approx(rates, abs=1e-9)


def test_overfitting_has_the_same_batches_in_each_epoch(tmp_path: Path):
    seen, _ = fit(tmp_path, "trainer.overfit_batches=2")
    epochs = [[samples for _, samples in seen.steps.values()][k : k + 2] for k in (0, 2, 4)]
    assert len(seen.steps) == 6 and epochs[0] == epochs[1] == epochs[2]


@pytest.mark.parametrize(
    "change", ["trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=4", "trainer.max_steps=12",
               "+trainer.val_check_interval=2"],
)  # fmt: skip
def test_a_training_that_is_stopped_twice_goes_on_to_the_bit_whatever_its_loops(change: str, tmp_path: Path):
    expected, weights = fit(tmp_path / "whole", change)
    first, _ = fit(tmp_path / "stopped", change, stop_at=3)
    second, _ = fit(tmp_path / "stopped", change, stop_at=4, resume=True)
    third, last = fit(tmp_path / "stopped", change, resume=True)
    assert first.steps | second.steps | third.steps == expected.steps
    assert third.steps, "all three have trained"
    assert all(torch.equal(last["state_dict"][key], weights["state_dict"][key]) for key in last["state_dict"])
