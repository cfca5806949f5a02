"""Settings of the process that a job runs in."""

from __future__ import annotations

import logging
import warnings

import torch

from ocr.utils.memory import disable_malloc_trimming


def prepare_process() -> None:
    """Process-wide setup: disable malloc trimming, flush denormals to zero, silence Lightning's tips."""
    disable_malloc_trimming()
    # CPUs are about a hundred times slower on denormals, which GELU produces; threads inherit the setting
    torch.set_flush_denormal(True)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen parts
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # its order is, see EpochPosition
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")  # of a resumed run
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # metrics are reduced before they are logged
