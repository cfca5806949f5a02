"""What only a CUDA card shows: ``pytest -m gpu``. Nothing here needs the network or PP-OCR's packages."""

from __future__ import annotations

import json
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from ocr.errors import UserError
from ocr.jobs.build import build_data, build_module
from ocr.jobs.make_data import write_icdar
from ocr.metrics.matching import pair
from ocr.training import memory
from ocr.training.memory import FindBatchSize, explain_out_of_memory
from ocr.training.trainer import build_trainer
from tests.composing import settings
from tests.tiny import LEARNS, OFF, run, run_folder

CARDS = torch.cuda.device_count() if torch.cuda.is_available() else 0
pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.skipif(not CARDS, reason="needs a CUDA card")]

DATA = ["data.num_workers=0"]
ON_CARD = [a for a in LEARNS if not a.startswith(("trainer=", "trainer.precision"))]  # the device is each test's own


def trained(cwd: Path, name: str, *arguments: str) -> Path:
    """The run folder of a training that has learned something."""
    done = run("train", *arguments, OFF, f"name={name}", cwd=cwd)
    assert done.returncode == 0, done.stderr
    folder = run_folder(cwd, name)
    assert metrics_of(folder)["val/hmean"] > 0.5
    return folder


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def scored(checkpoint: Path, cwd: Path, trainer: str) -> float:
    done = run("test", f"ckpt_path={checkpoint}", f"trainer={trainer}", *DATA, OFF, f"name=on_{trainer}", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return metrics_of(run_folder(cwd, f"on_{trainer}"))["test/hmean"]


def last_of(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def half_precision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training with fp16 and its gradient scaler."""
    return trained(tmp_path_factory.mktemp("fp16"), "fp16", *ON_CARD, "trainer=gpu", "trainer.precision=16-mixed")


def test_half_precision_trains_with_a_gradient_scaler_and_resumes_with_it(half_precision: Path, tmp_path: Path):
    state = last_of(half_precision)
    assert 0 < state["MixedPrecision"]["scale"] < float("inf")
    assert all(value.dtype != torch.float16 for value in state["state_dict"].values()), "weights stay float32"
    resumed = trained(tmp_path, "more", f"resume='{half_precision}'", "trainer.max_epochs=6", "test=false")
    again = last_of(resumed)
    assert again["epoch"] == 5 and again["global_step"] == state["global_step"] + 60
    assert again["MixedPrecision"]["_growth_tracker"] != state["MixedPrecision"]["_growth_tracker"]


def test_a_checkpoint_goes_from_gpu_to_cpu_and_back(half_precision: Path, learned: Path, tmp_path: Path):
    for checkpoint in (half_precision, learned):
        figures = [scored(checkpoint, tmp_path, trainer) for trainer in ("gpu", "cpu", "gpu")]
        assert figures[0] == figures[2] > 0.5
        assert figures[0] == pytest.approx(metrics_of(checkpoint)["test/hmean"], abs=0.02)
        assert figures[0] == pytest.approx(figures[1], abs=0.02)
    on_cpu = ["trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=6", "test=false"]
    there = trained(tmp_path, "there", f"resume='{half_precision}'", *on_cpu)
    on_gpu = ["trainer=gpu", "trainer.precision=16-mixed", "trainer.max_epochs=7", "test=false"]
    back = trained(tmp_path, "back", f"resume='{there}'", *on_gpu)
    assert [last_of(folder)["epoch"] for folder in (half_precision, there, back)] == [4, 5, 6]


@pytest.mark.parametrize("detector, pixels", [("learned", 0.5), ("receipts", 2)])
def test_predictions_of_cpu_and_gpu_are_alike(detector: str, pixels: float, learned: Path, tmp_path: Path):
    """Of a checkpoint, and of an ONNX file, which torch runs on the card and onnxruntime on the CPU."""
    checkpoint = learned if detector == "learned" else detector
    images = write_icdar(tmp_path / "set", 4, 1, 0) / "images"
    found = {}
    for accelerator in ("cpu", "gpu"):
        done = run("predict", f"ckpt_path={checkpoint}", f"source={images}", f"output={accelerator}",
                   f"accelerator={accelerator}", "num_workers=0", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / accelerator / "predictions.jsonl").read_text().splitlines()
        found[accelerator] = [[np.array(p) for p in json.loads(line)["polygons"]] for line in lines]
    assert sum(map(len, found["cpu"])) > 70
    for one, other in zip(found["cpu"], found["gpu"], strict=True):
        pairs = pair(other, one)
        partners = dict(zip(pairs.g[pairs.iou > 0.5].tolist(), pairs.d[pairs.iou > 0.5].tolist()))
        assert len(one) == len(other) == len(partners)
        for k, polygon in enumerate(one):
            turned = [np.roll(other[partners[k]], by, axis=0) for by in range(len(polygon))]
            assert min(np.abs(polygon - corners).max() for corners in turned) < pixels


def test_batches_come_from_pinned_memory_and_reach_the_card():
    given = settings(*ON_CARD, "data.num_workers=2", "data.epoch_samples=8", "model.compile=false")
    module = build_module(given)

    class Watched(L.Callback):
        def __init__(self) -> None:
            self.devices: set[str] = set()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            self.devices |= {batch["image"].device.type, batch["targets"].device.type, outputs["loss"].device.type}

        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
            self.devices |= {image.device.type for image in batch["images"]}

    data = build_data(given.data, module.pipeline, given.seed)
    data.load("train", "val")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].is_pinned() and batch["targets"].is_pinned()
    assert all(image.is_pinned() for image in next(iter(data.val_dataloader()))["images"])
    watched = Watched()
    trainer = L.Trainer(
        accelerator="gpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[watched],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    assert watched.devices == {"cuda"}


def test_batch_norms_are_synchronised_in_a_group_of_processes(tmp_path: Path):
    """``trainer=ddp`` on the first card alone: its norms are SyncBN's, and what is saved has plain names and shapes."""
    settings = ["trainer=ddp", "trainer.devices=1", "trainer.precision=32-true"]
    folder = trained(tmp_path, "sync", *ON_CARD, *settings, "+callbacks.norms._target_=tests.test_gpu.NamesNorms")
    assert set((folder / "norms").read_text().split()) == {"SyncBatchNorm", "SyncBatchNormAct"}
    assert scored(folder, tmp_path, "cpu") == pytest.approx(metrics_of(folder)["test/hmean"], abs=0.02)


class NamesNorms(L.Callback):
    """Writes the kinds of the network's batch norms that a training runs with into its folder."""

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        kinds = {
            type(layer).__name__
            for layer in pl_module.network.modules()
            if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        }
        Path(trainer.default_root_dir, "norms").write_text(" ".join(kinds))


@pytest.mark.skipif(CARDS < 2, reason="needs two CUDA cards")
def test_two_cards_train_and_score_as_one(tmp_path: Path):
    settings = ["trainer=ddp", "trainer.devices=2", "trainer.precision=32-true", "trainer.max_epochs=8"]
    folder = trained(tmp_path, "two", *[a for a in ON_CARD if "max_epochs" not in a], *settings)
    assert scored(folder, tmp_path, "gpu") == pytest.approx(metrics_of(folder)["test/hmean"], abs=1e-6)


def test_the_largest_batch_is_found_and_a_larger_one_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On a card with 3 GB: ``data.batch_size=auto`` trains, three times as much ends in one line."""
    monkeypatch.setattr(memory, "MEMORY_FRACTION", 1.0)
    total = torch.cuda.get_device_properties(0).total_memory
    given = settings(*ON_CARD, "trainer=gpu", "data.geometry.crop_size=[640,640]", "data.batch_size=auto",
                     "data.epoch_samples=512", "trainer.max_steps=2", "data.num_workers=8", "model.compile=false",
                     "model.head.channels=64", "model.neck.channels=128", f"paths.run_dir={tmp_path}")  # fmt: skip
    module = build_module(given)
    data = build_data(given.data, module.pipeline, given.seed)
    data.load("train", "val")
    trainer = build_trainer(given.trainer, [Shrinks(3e9 / total), FindBatchSize(data)])
    with explain_out_of_memory(trainer, data):
        trainer.fit(module, datamodule=data)
    found = data.batch_size
    print(f"{torch.cuda.get_device_name()}: {found} crops of 640x640 fit 3 GB")
    assert 4 <= found < 512 and trainer.global_step == 2

    data.batch_size = 3 * found
    again = build_trainer(given.trainer, [Shrinks(3e9 / total)])
    with (
        pytest.raises(UserError, match=f"data.batch_size={3 * found} crops of 640x640"),
        explain_out_of_memory(again, data),
    ):
        again.fit(module, datamodule=data)
    torch.cuda.set_per_process_memory_fraction(1.0)


class Shrinks(L.Callback):
    """Leaves a share of the card's memory to this process."""

    def __init__(self, share: float) -> None:
        self.share = share

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        torch.cuda.set_per_process_memory_fraction(self.share)
        memory.MEMORY_FRACTION = 0.9 * self.share

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        torch.cuda.set_per_process_memory_fraction(self.share)
