"""Layers whose backward pass in torch is slow on a CPU, with one that is not; forward they are the same.

Three things are slow (docs/benchmark.md has figures): oneDNN's gradients of depthwise convolutions in bfloat16, its
gradient of a transposed convolution's bias, and whatever mixes memory formats, as the gradients of means and of parts
of a concatenation do, which do not come in the format of the tensors they are added to.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BF16 = torch.bfloat16
LARGE = 3  # kernels beyond this have their gradient computed in float32


class _Depthwise(torch.autograd.Function):
    """conv2d of one filter a channel, with a backward pass of its own."""

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
    kind = weight.dtype
    if max(weight.shape[2:]) > LARGE:
        gradient, x, weight = gradient.float(), x.float(), weight.float()
    only_weight = [False, True, False]
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), only_weight
    )
    return found[1].to(kind)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise ``nn.Conv2d``, see :func:`quicken`; the same but for the backward pass under bfloat16 autocast."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        if not (self.training and _in_bfloat16(x)):
            return super().forward(x)
        bias = None if self.bias is None else self.bias.to(BF16)
        return _Depthwise.apply(x.to(BF16), self.weight.to(BF16), bias, self.stride, self.padding)


class _Mean(torch.autograd.Function):
    """Mean over height and width; its gradient is a view, where torch fills a tensor of the other memory format."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return (gradient / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


class _Concat(torch.autograd.Function):
    """Tensors side by side along their channels; each gets its gradient as a tensor of its own."""

    @staticmethod
    def forward(ctx: Any, *parts: torch.Tensor) -> torch.Tensor:
        ctx.channels = [part.shape[1] for part in parts]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = gradient.split(ctx.channels, dim=1)
        return tuple(part.contiguous(memory_format=torch.channels_last) for part in parts)


class Mean(nn.Module):
    """Mean over height and width, kept as 1 x 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        return _Mean.apply(x) if self.training else x.mean((2, 3), keepdim=True)


class Concat(nn.Module):
    """Several inputs to one, along the channels."""

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) each, to (B, sum of C, H, W)."""
        return _Concat.apply(*parts) if self.training else torch.cat(parts, dim=1)


class TransposedConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with its bias added apart: in oneDNN's backward pass that takes longer than all else."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        if self.bias is None or output_size is not None or not (self.training and _in_bfloat16(x)):
            return super().forward(x, output_size)
        y = F.conv_transpose2d(
            x, self.weight, None, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
        return y + self.bias.to(y.dtype).view(1, -1, 1, 1)


def _in_bfloat16(x: torch.Tensor) -> bool:
    """Whether a convolution of this tensor is done by a CPU in bfloat16."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == BF16


def quicken(network: nn.Module) -> nn.Module:
    """A network's depthwise and transposed convolutions become, in place, the classes above; weights stay."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = DepthwiseConv2d
        elif type(layer) is nn.ConvTranspose2d:
            layer.__class__ = TransposedConv2d
    return network


def _fits(layer: nn.Conv2d) -> bool:
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    plain = layer.padding_mode == "zeros" and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
    return depthwise and plain and all(p < k for p, k in zip(layer.padding, layer.kernel_size))
