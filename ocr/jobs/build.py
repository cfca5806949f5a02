"""From config to objects."""

from __future__ import annotations

import logging
import platform
import warnings
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, TorchSyncBatchNorm
from omegaconf import DictConfig, ListConfig
from timm.layers import convert_sync_batchnorm
from torch import nn

from ocr.data.datamodule import DetectionData
from ocr.errors import UserError, first_line
from ocr.metrics.collection import MetricCollection
from ocr.models.pretrained.ppocr import carried_pipeline
from ocr.pipeline import Pipeline
from ocr.tracking.run import Tracking
from ocr.training.checkpoints import WholeCheckpoints
from ocr.training.csv_log import CsvLog
from ocr.training.loading import checkpoint_path as checkpoint_path
from ocr.training.loading import find_model as find_model
from ocr.training.loading import load_module, plain
from ocr.training.loading import origin_of as origin_of
from ocr.training.module import DetectionModule
from ocr.training.optim.parameters import OptimizerSettings
from ocr.utils.instantiate import instantiate
from ocr.utils.machine import cpu_has_bf16
from ocr.utils.memory import keep_freed_memory

log = logging.getLogger(__name__)


def prepare_process() -> None:
    """Before any job: memory is kept, numbers below 1e-38 are zero, and Lightning's advertisements leave the log."""
    keep_freed_memory()
    # processors compute with such numbers a hundred times as slowly, and a GELU gives many; threads inherit this
    torch.set_flush_denormal(True)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Experiment logs directory.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen parts
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # what is logged is that of all ranks already


def build_data(config: DictConfig, pipeline: Pipeline) -> DetectionData:
    """The data module of ``config.data``."""
    make = hydra.utils.instantiate(config.data, _partial_=True, _convert_="all")
    return make(pipeline=pipeline, seed=config.seed)


def open_checkpoint(config: DictConfig, checkpoint: Path, whole: bool = False) -> tuple[DetectionModule, DetectionData]:
    """The detector of a checkpoint, as ``config`` changes it, and the data with its ``config.split`` read.

    With ``whole`` that is all of a folder without parts.
    """
    prepare_process()
    L.seed_everything(config.seed, workers=True, verbose=False)
    module = load_module(checkpoint, config, plain(config.fallback_pipeline))
    if "metrics" in config:
        module.metrics = build_metrics(config)
    data = build_data(config, module.pipeline)
    return module, data.load(config.split, whole=whole)


def build_module(config: DictConfig) -> DetectionModule:
    """A module with a fresh network from ``config.model``, ready to be trained."""
    return DetectionModule(
        network=plain(config.model.network),
        pipeline=_with_normalisation_of_weights(config.model),
        loss=instantiate(plain(config.model.loss)),
        optimizer=OptimizerSettings(
            instantiate(plain(config.optimizer)), instantiate(plain(config.schedule)), plain(config.lr_multipliers)
        ),
        metrics=build_metrics(config),
        compile_network=compiles(config.model.compile, config.trainer.accelerator),
        replace_slow_layers=config.model.replace_slow_cpu_layers,
    )


def build_metrics(config: DictConfig) -> MetricCollection:
    """The protocols of ``config.metrics``."""
    return MetricCollection(instantiate(plain(config.metrics)))


def compiles(wanted: bool | str, accelerator: str) -> bool:
    """Whether to train through ``torch.compile``; "auto" where a function of one addition can be compiled."""
    if wanted not in (True, False, "auto"):
        raise UserError(f"model.compile must be true, false or auto, got {wanted!r}")
    if wanted != "auto":
        return bool(wanted)
    device = "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    try:
        torch.compile(lambda x: x + 1)(torch.ones(8, device=device))
    except Exception as error:  # no C++ compiler, no Python headers, no Triton: as many kinds
        log.info("torch.compile does not work here (%s): training goes on without it", first_line(error))
        return False
    return True


def _with_normalisation_of_weights(model: DictConfig) -> dict[str, Any]:
    """The pipeline, with the mean, deviation and channels that the file of ``model.weights`` was trained with."""
    pipeline = plain(model.pipeline)
    carried = carried_pipeline(str(model.weights)) if model.get("weights") else None
    changes = {k: carried[k] for k in ("mean", "std", "channels") if carried[k] != pipeline[k]} if carried else {}
    if changes:
        log.info("input of the network as %s says: %s", model.weights, changes)
    return pipeline | changes


def build_callbacks(config: DictConfig) -> list[L.Callback]:
    """The callbacks of ``config.callbacks``; an entry set to null is switched off.

    Raises:
        UserError: an entry makes something that is no callback.
    """
    built = {}
    for name, node in (config.callbacks or {}).items():
        if node is not None:
            built[name] = hydra.utils.instantiate(node)
            if not isinstance(built[name], L.Callback):
                made = type(built[name]).__name__
                raise UserError(f"callbacks.{name} makes a {made}, which is no callback of Lightning (Callback)")
    return [*built.values()]


def build_loggers(config: DictConfig, tracking: Tracking | None) -> list[Logger]:
    """Metrics go to ``csv/metrics.csv`` in the run folder and to W&B, if that is on."""
    csv = CsvLog(config.paths.run_dir, name="", version="csv")
    return [csv] if tracking is None else [csv, tracking.logger]


def device_name(trainer: L.Trainer) -> str:
    """The device that a trainer runs on: the card's name, or the processor's kind."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"


class SyncNorms(TorchSyncBatchNorm):
    """``trainer.sync_batchnorm`` by timm's conversion: torch's drops the activations inside timm's norms."""

    def apply(self, model: nn.Module) -> nn.Module:
        return convert_sync_batchnorm(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return model  # alone, and in evaluation mode, they are plain norms


def build_trainer(config: DictConfig, callbacks: list[L.Callback], loggers: list[Logger]) -> L.Trainer:
    """The trainer of ``config.trainer``.

    Raises:
        UserError: the settings do not go together or the device is not there.
    """
    settings: dict[str, Any] = {"precision": precision(config.trainer.precision, config.trainer.accelerator)}
    settings["plugins"] = _plugins(config.trainer.get("plugins"))
    if config.trainer.get("sync_batchnorm"):
        settings["plugins"].append(SyncNorms())
    try:
        return hydra.utils.instantiate(config.trainer, callbacks=callbacks, logger=loggers, **settings)
    except hydra.errors.InstantiationException as error:
        reason = error.__cause__
        if type(reason).__name__ in ("MisconfigurationException", "TypeError", "ValueError"):
            raise UserError(f"trainer: {reason}") from error
        raise


def _plugins(node: Any) -> list[Any]:
    """The plugins of ``trainer.plugins``, and ours that writes checkpoints unless one of them does."""
    made = hydra.utils.instantiate(node) or []
    plugins = [made] if not isinstance(made, (list, ListConfig)) else list(made)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    return plugins


def precision(wanted: str | int, accelerator: str) -> str | int:
    """Lightning's name of the precision; "auto" for bf16 or fp16 mixed where the device has it, else float32."""
    if wanted != "auto":
        return wanted
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available() and cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"
