"""Memory of the device: the largest batch that fits, and what to lower when one does not."""

from __future__ import annotations

import contextlib
import copy
import logging
import traceback
from collections.abc import Callable, Iterator

import lightning as L
import torch

from ocr.data.datamodule import DetectionData
from ocr.errors import UserError, first_line
from ocr.training.module import DetectionModule
from ocr.training.optim.parameters import make_optimizer
from ocr.training.trainer import samples_per_step

log = logging.getLogger(__name__)
MEMORY_FRACTION = 0.9  # of the card's memory: averaged weights, DDP's buckets and fragments need the rest


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """The largest batch that fits, to within an eighth; 0 where not one sample does.

    Args:
        fits: whether a batch of that size does.
        limit: no larger one is tried.

    >>> largest_batch(lambda size: size <= 100, 1000), largest_batch(lambda size: True, 24)
    (96, 24)
    """
    if not fits(1):
        return 0
    low, high = 1, 2
    while low < limit and fits(min(high, limit)):
        low, high = min(high, limit), 2 * high
    high = min(high, limit + 1)
    while high - low > max(1, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


class FindBatchSize(L.Callback):
    """``data.batch_size=auto``: tries steps of training on the card before the training begins.

    Args:
        data: gets the size; with several ranks the smallest of theirs.
    """

    def __init__(self, data: DetectionData) -> None:
        self.data = data

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raises :class:`UserError` without a GPU, or where not one sample fits."""
        if stage != "fit" or not self.data.auto_batch_size:
            return
        device = trainer.strategy.root_device
        if device.type != "cuda":
            raise UserError(f"data.batch_size=auto needs a GPU, this training runs on the {device.type}: give a number")
        assert isinstance(pl_module, DetectionModule)
        limit = max(1, sum(self.data.samples_per_epoch()) // trainer.world_size)
        torch.cuda.set_per_process_memory_fraction(MEMORY_FRACTION, device)
        try:
            batch_size = largest_batch(lambda size: self._fits(size, trainer, pl_module.to(device)), limit)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        batch_size = int(trainer.strategy.reduce(torch.tensor(batch_size, device=device), reduce_op="min"))
        width, height = self.data.geometry.crop_size
        if not batch_size:
            raise UserError(
                f"data.batch_size=auto: not one crop of {width}x{height} fits: lower data.geometry.crop_size"
            )
        self.data.batch_size, self.data.auto_batch_size = batch_size, False
        samples = samples_per_step(trainer, batch_size)
        log.info("data.batch_size=auto: %d per device, %d samples per step", batch_size, samples)

    def _fits(self, size: int, trainer: L.Trainer, module: DetectionModule) -> bool:
        """Whether two steps with a batch of this size run, on a copy of the network."""
        width, height = self.data.geometry.crop_size
        assert module.loss is not None
        assert module.optimizer_settings is not None
        try:
            network = copy.deepcopy(module.network).train()
            optimizer = make_optimizer(network, module.optimizer_settings)
            images = torch.zeros(size, height, width, 3, dtype=torch.uint8, device=module.device)
            targets = torch.randint(0, 2, (size, 4, height, width), dtype=torch.uint8, device=module.device)
            for _ in range(2):
                with trainer.precision_plugin.forward_context():
                    loss = module.loss(network(module.normalise(images)), targets)["loss"]
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            return True
        except RuntimeError as error:  # of memory, and of kernels that know no tensor of that size
            if size == 1 and not out_of_memory(error):
                raise
            return False
        finally:
            network = optimizer = images = targets = loss = None  # type: ignore[assignment]
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is that of an allocation on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextlib.contextmanager
def explain_out_of_memory(trainer: L.Trainer, data: DetectionData) -> Iterator[None]:
    """Around a fit or a test: what needed the memory, and which settings need less.

    Raises:
        UserError: there was not enough.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        width, height = data.geometry.crop_size
        if {"validation_step", "test_step"} & {frame.name for frame in traceback.extract_tb(error.__traceback__)}:
            need = f"data.eval_batch_size={data.eval_batch_size} whole images: lower it, or the resize policy's size"
        else:
            need = (f"data.batch_size={data.batch_size} crops of {width}x{height}: lower data.batch_size"
                    " (trainer.accumulate_grad_batches makes up for it) or data.geometry.crop_size")  # fmt: skip
        raise UserError(f"out of memory on {trainer.strategy.root_device} with {need} ({first_line(error)})") from error
