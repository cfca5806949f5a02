"""Lightning's trainer, and what the device allows it: precision, compilation."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, TorchSyncBatchNorm
from timm.layers import convert_sync_batchnorm
from torch import nn

from ocr.errors import UserError, first_line
from ocr.training.checkpoints import AtomicCheckpointIO
from ocr.utils.config import instantiate
from ocr.utils.machine import cpu_has_bf16

log = logging.getLogger(__name__)


class SyncNorms(TorchSyncBatchNorm):
    """``trainer.sync_batchnorm`` by timm's conversion: torch's drops the activations inside timm's norms."""

    def apply(self, model: nn.Module) -> nn.Module:
        return convert_sync_batchnorm(model)

    def revert(self, model: nn.Module) -> nn.Module:
        return model  # on one process and in evaluation mode they are plain norms


def build_trainer(
    settings: Mapping[str, Any], callbacks: list[L.Callback], loggers: list[Logger] | None = None
) -> L.Trainer:
    """The trainer of a job.

    Args:
        settings: ``trainer`` of the config; ``precision`` may be ``auto``.

    Raises:
        UserError: the settings do not go together, or the device is not there.
    """
    chosen = precision(settings["precision"], settings["accelerator"])
    plugins = _plugins(settings)
    try:
        trainer = instantiate(settings, callbacks=callbacks, logger=loggers or [], precision=chosen, plugins=plugins)
    except Exception as error:  # Hydra wraps what a constructor raises
        reason = error.__cause__
        if type(reason).__name__ in ("MisconfigurationException", "TypeError", "ValueError"):
            raise UserError(f"trainer: {reason}") from error
        raise
    # Lightning's handlers communicate between ranks inside the handler; ours are StepSignals
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def _plugins(settings: Mapping[str, Any]) -> list[Any]:
    """The plugins of the settings, and ours that writes checkpoints unless one of them does."""
    given = settings.get("plugins") or []
    plugins = [instantiate(node) for node in (given if isinstance(given, list) else [given])]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(AtomicCheckpointIO())
    if settings.get("sync_batchnorm"):
        plugins.append(SyncNorms())
    return plugins


def precision(requested: str | int, accelerator: str) -> str | int:
    """Lightning's name of a precision; ``auto`` is bf16 or fp16 mixed where the device has it, else float32."""
    if requested != "auto":
        return requested
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available() and cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"


def compiles(requested: bool | str, accelerator: str) -> bool:
    """Whether to train through ``torch.compile``; ``auto`` where a function of one addition can be compiled."""
    if requested != "auto":
        return bool(requested)
    device = "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    try:
        torch.compile(lambda x: x + 1)(torch.ones(8, device=device))
    except Exception as error:  # no C++ compiler, no Python headers, no Triton: as many kinds
        log.info("torch.compile does not work here (%s): training goes on without it", first_line(error))
        return False
    return True


def device_name(trainer: L.Trainer) -> str:
    """The device that a trainer runs on: the card's name, or the processor's kind."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"


def samples_per_step(trainer: L.Trainer, batch_size: int) -> int:
    """Samples that a step of the optimizer sees, all devices together."""
    return batch_size * trainer.world_size * trainer.accumulate_grad_batches
