"""Drop-in replacements for layers whose backward pass is slow on a CPU (bf16, channels-last); numerically equivalent.

Slow are oneDNN's gradients of depthwise convolutions, and of a transposed convolution's bias.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BF16 = torch.bfloat16
MAX_FAST_COLUMNS = 3  # columns of a kernel up to which oneDNN's gradient of it is fast in bfloat16


class _Depthwise(torch.autograd.Function):
    """conv2d of one filter per channel, with a backward pass of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias, *_ = ctx.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        by_x = _input_gradient(gradient, x, weight, ctx.stride, ctx.padding) if for_x else None
        by_weight = _weight_gradient(gradient, x, weight, ctx.stride, ctx.padding) if for_weight else None
        by_bias = gradient.sum((0, 2, 3)) if for_bias else None
        return by_x, by_weight, by_bias, None, None


def _input_gradient(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """A convolution of stride 1 with the turned kernel, over the gradient with zeros where the stride leaves out."""
    kernel = weight.shape[2:]
    if stride != (1, 1):
        height, width = (n + 2 * p - k + 1 for n, p, k in zip(x.shape[2:], padding, kernel))
        spread = gradient.new_zeros(len(x), height, width, len(weight)).permute(0, 3, 1, 2)
        spread[:, :, :: stride[0], :: stride[1]] = gradient
        gradient = spread
    around = tuple(k - 1 - p for k, p in zip(kernel, padding))
    return F.conv2d(gradient, weight.flip(2, 3), None, 1, around, 1, len(weight))


def _weight_gradient(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """Weight gradient, of a wide kernel in strips of few columns: oneDNN is fast where at most one column is padded."""
    kind, width = weight.dtype, weight.shape[3]
    if width <= MAX_FAST_COLUMNS:
        return _filter_gradient(gradient, x, weight, stride, padding)
    if stride[1] != 1 or 2 * padding[1] != width - 1:
        return _filter_gradient(gradient.float(), x.float(), weight.float(), stride, padding).to(kind)
    strips = []
    for start, end in _strips(width):
        around = (end - start) // 2
        shift = around + start - padding[1]  # of the gradient's columns, for this strip to find its pixels of x
        beyond = 2 * around + 1 - (end - start) - shift
        moved = gradient
        if shift or beyond:
            moved = F.pad(gradient, (shift, beyond)).contiguous(memory_format=torch.channels_last)
        part = weight[..., start:end].contiguous(memory_format=torch.channels_last)
        strips.append(_filter_gradient(moved, x, part, stride, (padding[0], around)))
    return torch.cat(strips, dim=3)


def _strips(width: int) -> list[tuple[int, int]]:
    """The columns of a kernel of odd width: the middle three, and beside them two and two; (start, end) of each."""
    middle = width // 2 - 1
    left = [(max(end - 2, 0), end) for end in range(middle, 0, -2)]
    return [*left[::-1], (middle, middle + 3), *((width - end, width - start) for start, end in left)]


def _filter_gradient(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    only_weight = [False, True, False]
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), only_weight
    )[1]


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise ``nn.Conv2d`` with a faster backward pass under bfloat16 autocast on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        if not (self.training and _in_bfloat16(x)):
            return super().forward(x)
        bias = None if self.bias is None else self.bias.to(BF16)
        return _Depthwise.apply(x.to(BF16), self.weight.to(BF16), bias, self.stride, self.padding)


class _Transposed(torch.autograd.Function):
    """conv_transpose2d whose bias has its gradient summed apart: in oneDNN that takes longer than all else."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layout: tuple[tuple[int, ...], ...]
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layout = layout
        stride, padding, output_padding, dilation, (groups,) = layout
        return F.conv_transpose2d(x, weight, bias, stride, padding, output_padding, groups, dilation)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, output_padding, dilation, (groups,) = ctx.layout
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        needed = [for_x, for_weight, False]
        by_x, by_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, dilation, True, output_padding, groups, needed
        )
        return by_x, by_weight, gradient.sum((0, 2, 3)) if for_bias else None, None


class TransposedConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with a faster backward pass under bfloat16 autocast on a CPU."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        if self.bias is None or output_size is not None or not (self.training and _in_bfloat16(x)):
            return super().forward(x, output_size)
        layout = (self.stride, self.padding, self.output_padding, self.dilation, (self.groups,))
        return _Transposed.apply(x.to(BF16), self.weight.to(BF16), self.bias.to(BF16), layout)


def _in_bfloat16(x: torch.Tensor) -> bool:
    """Whether a convolution of this tensor is done by a CPU in bfloat16."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == BF16


def replace_slow_cpu_layers(network: nn.Module) -> nn.Module:
    """A network's depthwise and transposed convolutions become the classes above, in place; weights stay.

    Gain of a training step in bf16 on two cores with AVX-512: 20 to 46 % by the depthwise ones, 1 to 19 % by the
    transposed ones.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = DepthwiseConv2d
        elif type(layer) is nn.ConvTranspose2d:
            layer.__class__ = TransposedConv2d
    return network


def _fits(layer: nn.Conv2d) -> bool:
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    if not depthwise or layer.padding_mode != "zeros" or layer.dilation != (1, 1) or isinstance(layer.padding, str):
        return False
    return all(p < k for p, k in zip(layer.padding, layer.kernel_size))
