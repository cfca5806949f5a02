"""What W&B costs an epoch.

One training of the default job in which every other epoch logs to W&B (metrics every ``trainer.log_every_n_steps``
steps, pictures of bad batches, the table), the others do not. Machines are noisy: only the ratio of neighbouring epochs
counts. W&B's own process runs throughout; its CPU time is given beside it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig

from ocr.benchmark.rows import Row
from ocr.jobs.build import build_callbacks, build_data, build_module
from ocr.jobs.settings import TrainSettings, job_of, read
from ocr.tracking.batch_images import image_callbacks
from ocr.tracking.run import tracked_run
from ocr.training.process import prepare_process
from ocr.training.trainer import build_trainer

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
PAIRS = 3


class Alternate(L.Callback):
    """Times whole epochs, training and validation, and says whether this one logs."""

    def __init__(self) -> None:
        self.logs, self.seconds = False, {True: [], False: []}
        self._started = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.logs = trainer.current_epoch > 0 and trainer.current_epoch % 2 == 0
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds[self.logs].append(time.perf_counter() - self._started)


def switched(target: Any, names: list[str], switch: Alternate) -> Any:
    """``target`` whose methods do nothing in the epochs that do not log."""
    for name in names:
        method = getattr(target, name)
        setattr(target, name, lambda *a, _m=method, **k: _m(*a, **k) if switch.logs else None)
    return target


def cpu_seconds(name: str) -> float:
    """CPU time so far of the processes of a name (Linux)."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        if head.endswith(name):
            total += sum(map(int, rest.split()[11:13])) / 100
    return total


def wandb_cost(config: DictConfig) -> list[Row]:
    """An epoch that logs over the mean of its neighbours that do not; ten minutes."""
    folder = tempfile.mkdtemp(prefix="wandb_cost_")
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        fixed = [f"trainer.max_epochs={2 * PAIRS + 2}", f"paths.run_dir={folder}", "logger.offline=true",
                 "logger.wandb.enabled=true"]  # fmt: skip
        config = hydra.compose("train", overrides=fixed)
    settings = read(config, TrainSettings)
    job = job_of(config, settings)
    prepare_process()
    L.seed_everything(settings.seed, workers=True, verbose=False)
    switch = Alternate()
    with tracked_run(job, "training") as tracking:
        assert tracking is not None
        module = build_module(settings)
        data = build_data(settings.data, module.pipeline, settings.seed).load("train", "val")
        ours = image_callbacks(job, tracking, "val")
        for callback in ours:
            names = [n for n in vars(type(callback)) if n.startswith("on_validation")]
            switched(callback, names, switch)
        logger: WandbLogger = switched(tracking.logger, ["log_metrics"], switch)
        tracking.logger = logger
        trainer = build_trainer(settings.trainer, [switch, *build_callbacks(settings.callbacks), *ours], [logger])
        before, started = cpu_seconds("wandb-core"), time.perf_counter()
        trainer.fit(module, datamodule=data)
        used, wall = cpu_seconds("wandb-core") - before, time.perf_counter() - started
    silent = switch.seconds[False][1:]  # the first epoch warms up
    ratios = [on / statistics.mean(silent[k : k + 2]) for k, on in enumerate(switch.seconds[True])]
    return [
        Row.of("wandb.epoch_that_logs", ratios, "x", "the default job, over its neighbours"),
        Row.of("wandb.own_process", [used / wall], "x", f"share of one core over {wall:.0f} s"),
    ]
