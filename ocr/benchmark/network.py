"""The parts that run the network: a step, a training, a validation pass, an export; see :mod:`ocr.benchmark.parts`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.profilers import SimpleProfiler
from omegaconf import DictConfig

from ocr.benchmark.clock import in_turns
from ocr.benchmark.memory import memory_of_family
from ocr.benchmark.rows import Row
from ocr.benchmark.workload import lines, load_data, settings_of
from ocr.data.transforms.decode import resize_and_pad
from ocr.jobs.build import build_callbacks, build_module
from ocr.models.onnx.export import export_onnx
from ocr.training.module import DetectionModule
from ocr.training.optim.parameters import make_optimizer
from ocr.training.process import prepare_process
from ocr.training.trainer import build_trainer, precision
from ocr.utils.config import instantiate
from ocr.utils.machine import cores


def step(config: DictConfig) -> list[Row]:
    """Forward, loss, backward and optimizer on tensors in memory."""
    prepare_process()
    device = _device(config)
    batch = _random_batch(config, device)
    module = build_module(settings_of(config)).to(device)
    module.train()
    assert module.optimizer_settings is not None
    assert module.loss is not None
    optimizer = make_optimizer(module.network, module.optimizer_settings)
    autocast = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(
        str(precision(config.trainer.precision, config.trainer.accelerator))
    )
    parts: dict[str, list[float]] = {name: [] for name in ("forward", "loss", "backward", "optimizer", "whole")}
    for k in range(config.repeats + 3):
        marks = [_now(device)]
        with torch.autocast(device, autocast or torch.bfloat16, enabled=autocast is not None):
            maps = module.network(module.normalise(batch["image"]))
            marks.append(_now(device))
            loss = module.loss(maps, batch["targets"])["loss"]
        marks.append(_now(device))
        loss.backward()
        marks.append(_now(device))
        optimizer.step()
        optimizer.zero_grad()
        marks.append(_now(device))
        if k >= 3:
            for name, begin, end in zip(parts, marks, marks[1:]):
                parts[name].append(end - begin)
            parts["whole"].append(marks[-1] - marks[0])
    width, height = config.data.geometry.crop_size
    on = f"{config.model.architecture} on {device}, {len(batch['image'])} x {width} x {height}"
    on += f", {autocast or torch.float32}, {'compiled' if module.compiled else 'not compiled'}".replace("torch.", "")
    return [Row.of(f"step.{name}", values, "ms", on) for name, values in parts.items()]


def _device(config: DictConfig) -> str:
    wants_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda")
    return "cuda" if wants_gpu and torch.cuda.is_available() else "cpu"


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _random_batch(config: DictConfig, device: str) -> dict[str, Any]:
    """Random pixels, and the targets of drawn lines."""
    width, height = config.data.geometry.crop_size
    maker = instantiate(config.data.targets)
    count = max(1, height // 13)
    maps = [maker(lines(count, width, height, seed=k), np.zeros(count, bool), height, width) for k in range(4)]
    size = int(config.data.batch_size)
    image = torch.randint(0, 256, (size, height, width, 3), dtype=torch.uint8)
    targets = torch.from_numpy(np.stack([maps[k % 4] for k in range(size)]))
    return {"index": torch.arange(size), "image": image.to(device), "targets": targets.to(device)}


def training(config: DictConfig) -> list[Row]:
    """Training with the real data against the same steps on one batch in memory, epoch by epoch in turns."""
    prepare_process()
    steps, rounds = int(config.steps), 3
    L.seed_everything(config.seed, workers=True, verbose=False)
    module = build_module(settings_of(config))
    config.data.epoch_samples = steps * config.data.batch_size
    data = load_data(config, "train", "val")
    batch = next(iter(data.train_dataloader()))

    seconds: dict[str, list[float]] = {"loader": [], "memory": []}
    held: list[float] = []

    class Clock(L.Callback):
        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            seconds[batches.kind].append((time.perf_counter() - self.began) / steps)
            held.append(memory_of_family())

    class InTurns(L.LightningDataModule):
        """Epochs from the loader and from memory in turns."""

        batch_size = config.data.batch_size

        def train_dataloader(self) -> Any:
            return batches

    class Batches:
        kind = "memory"
        begun = 0

        def __len__(self) -> int:
            return steps

        def __iter__(self) -> Any:
            self.kind = "memory" if self.kind == "loader" else "loader"
            if self.kind == "memory":
                return iter([batch] * steps)
            real.batch_sampler.sampler.set_epoch(self.begun)  # type: ignore[union-attr]
            self.begun += 1
            return iter(real)

    real, batches = data.train_dataloader(), Batches()
    config.trainer.max_epochs = 2 * rounds + 2
    kept = {name: node for name, node in settings_of(config).callbacks.items() if name in ("ema", "finite_weights")}
    callbacks = build_callbacks(kept)
    config.trainer.limit_val_batches = 0
    trainer = build_trainer(settings_of(config).trainer, [Clock(), *callbacks])
    trainer.fit(module, datamodule=InTurns())
    in_memory, loaded = seconds["memory"][1:], seconds["loader"][1:]
    ratios = [a / b for a, b in zip(in_memory, loaded)]  # what both share cancels out round by round
    name = config.trainer.accelerator
    on = f"{config.model.architecture}, {config.data.name}, {steps} steps of {config.data.batch_size} a round, {name}"
    return [
        Row.of("training.first_epoch", seconds["loader"][:1], "ms", "a step, with the start of workers"),
        Row.of("training.step", loaded, "ms", on),
        Row.of("training.step_in_memory", in_memory, "ms", on),
        Row.of("training.share_of_in_memory", ratios, "x", f"throughput, {cores()} cores"),
        Row.of("training.memory_gained", [held[-1] - held[2]], "MB", f"epochs 3 to {len(held)}, with workers"),
    ]


def validation(config: DictConfig) -> list[Row]:
    """A validation pass, and the share of it that the network takes."""
    prepare_process()
    module, data = build_module(settings_of(config)), load_data(config, "train", "val")
    config.trainer.limit_val_batches = int(config.images)
    seconds, shares, images = [], [], 0
    for k in range(4):
        profiler = SimpleProfiler()
        trainer = build_trainer(settings_of(config).trainer, [])
        trainer.profiler = profiler  # type: ignore[attr-defined]
        began = time.perf_counter()
        trainer.validate(module, data, verbose=False)
        if not k:
            continue  # warm-up
        network = profiler.recorded_durations["network_forward"]
        images = len(network)
        steps = [v for key, values in profiler.recorded_durations.items() if "validation_step" in key for v in values]
        waits = [v for key, values in profiler.recorded_durations.items() if "next" in key for v in values]
        shares.append(sum(network) / (sum(steps) + sum(waits)))
        seconds.append((time.perf_counter() - began) / images)
    on = f"{config.model.architecture}, {images} images of {config.data.name}"
    return [Row.of("validation.image", seconds, "ms", on), Row.of("validation.share_of_network", shares, "x", on)]


def export(config: DictConfig) -> list[Row]:
    """Writing an ONNX file, and reading images with it: decode, resize, network, post-processing."""
    config.model.compile = False  # what is exported is traced
    module = build_module(settings_of(config)).eval()
    data = load_data(config, "val")
    [source, *_] = data.sources["val"]
    count = min(int(config.images), len(source))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        [writing] = in_turns({"": lambda: export_onnx(module.network, module.pipeline, path, {})}, 3, 0).values()
        network = {"_target_": "ocr.models.onnx.runtime.OnnxDetector", "path": str(path)}
        detector = DetectionModule(network, module.pipeline.to_dict()).eval()

        def read() -> None:
            for k in range(count):
                image, _ = source.load(k)
                padded = torch.from_numpy(resize_and_pad(image, module.pipeline.resize, module.pipeline.fill_colour))
                detector.detect([padded], [image.shape[1::-1]])

        [reading] = in_turns({"": read}, 3, 1).values()
    side = module.pipeline.resize.long_side
    on = f"{config.model.architecture}, {count} images of {config.data.name}, long side {side}"
    return [Row.of("export.write", writing, "s", on), Row.of("export.image", reading, "ms", on, count)]
