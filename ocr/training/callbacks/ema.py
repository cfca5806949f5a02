"""Exponential moving average of the weights that is useful from the first epochs on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ocr.errors import UserError


def warmed_up_ema(
    decay: float, warmup: float = 10.0
) -> Callable[[list[torch.Tensor], list[torch.Tensor], torch.Tensor | int], None]:
    """Averaging function of many tensors for :class:`lightning.pytorch.callbacks.WeightAveraging`.

    With a constant decay the average still holds random initial weights after many steps of a short training. The
    decay of step n is min(decay, (1 + n) / (warmup + n)), as TensorFlow's ExponentialMovingAverage has it.

    Args:
        decay: share of the old average that each step keeps in the end, 0..1.
        warmup: the larger, the longer the average follows the weights closely.
    """
    if not 0 <= decay < 1:
        raise UserError(f"callbacks.ema.multi_avg_fn.decay must lie in 0..1 (1 excluded), got {decay}")

    def average(averages: list[torch.Tensor], values: list[torch.Tensor], count: torch.Tensor | int) -> None:
        if not averages[0].is_floating_point():  # counts of batches
            torch._foreach_copy_(averages, values)
            return
        # a tensor throughout: reading the count would make a GPU wait
        count = torch.as_tensor(count)
        count = count.to(torch.float64 if count.is_cpu else torch.float32)
        kept = ((1 + count) / (warmup + count)).clamp(max=decay)
        steps = torch._foreach_sub(values, averages)  # in this form, so that what is frozen stays equal to the bit
        torch._foreach_mul_(steps, 1 - kept)
        torch._foreach_add_(averages, steps)

    return average
