"""Layers that torch trains slowly on a CPU, and ways that are not slow; what they compute is the same.

Four things are slow (docs/benchmark.md has figures): oneDNN's gradients of depthwise convolutions in bfloat16, its
gradient of a transposed convolution's bias, batch norms of channels that do not fill a vector register, and whatever
mixes memory formats, as the gradients of means and of parts of a concatenation do, which do not come in the format of
the tensors they are added to.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BF16 = torch.bfloat16
WIDE = 3  # columns of a kernel up to which oneDNN's gradient of it is fast in bfloat16
LANES = 32  # bfloat16 values of a vector register of 512 bits


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
    """In strips of few columns where the kernel is wide: oneDNN is fast for these, if at most one column is padded."""
    kind, width = weight.dtype, weight.shape[3]
    if width <= WIDE:
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
        wanted = [for_x, for_weight, False]
        by_x, by_weight, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, stride, padding, dilation, True, output_padding, groups, wanted
        )
        return by_x, by_weight, gradient.sum((0, 2, 3)) if for_bias else None, None


class TransposedConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d``, see :func:`quicken`; the same but for the backward pass under bfloat16 autocast."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        if self.bias is None or output_size is not None or not (self.training and _in_bfloat16(x)):
            return super().forward(x, output_size)
        layout = (self.stride, self.padding, self.output_padding, self.dilation, (self.groups,))
        return _Transposed.apply(x.to(BF16), self.weight.to(BF16), self.bias.to(BF16), layout)


class _BatchNorm(torch.autograd.Function):
    """Batch norm of training, ``times`` pixels of a row side by side as if they were channels.

    torch normalises the channels that fill no register one by one, up to ten times as slowly as their share. So a row
    of W pixels of C channels is read as W / times pixels of times * C channels, which is the same memory, and what is
    found of each of them is brought together for its channel. Mean and variance are outputs, for running statistics.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, times: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wide = _side_by_side(x, times)
        # running statistics, unused: they say of which type, finer than x's, the found ones are
        running = [torch.zeros(wide.shape[1], dtype=weight.dtype) for _ in range(2)]
        means, variances = torch.ops.aten.batch_norm_update_stats(wide, *running, 0.0)
        means, variances = means.view(times, -1), variances.view(times, -1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        y = F.batch_norm(wide, *(v.repeat(times) for v in (mean, variance, weight, bias)), training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.times = eps, times
        ctx.mark_non_differentiable(mean, variance)
        return _as_it_was(y, x), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """By Ioffe & Szegedy 2015, section 3: s (g - mean(g) - x^ mean(g x^)), with x^ the normalised x."""
        x, weight, mean, variance = ctx.saved_tensors
        gradient = _side_by_side(gradient.contiguous(memory_format=torch.channels_last), ctx.times)
        wide = _side_by_side(x, ctx.times)
        repeated = [v.repeat(ctx.times) for v in (weight, mean, variance)]
        only_sums = [False, True, True]
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, wide, *repeated, None, None, False, ctx.eps, only_sums
        )
        by_weight, by_bias = by_weight.view(ctx.times, -1).sum(0), by_bias.view(ctx.times, -1).sum(0)
        by_x = None
        if ctx.needs_input_grad[0]:
            scale = (weight * (variance + ctx.eps).rsqrt()).to(x.dtype)  # of the gradient's type, or addcmul copies it
            a_pixel = -scale.to(weight.dtype) / (x.numel() / x.shape[1])
            slope, shift = (a_pixel * v for v in (by_weight, by_bias))
            by_x = F.batch_norm(
                wide, *repeated[1:], slope.repeat(ctx.times), shift.repeat(ctx.times), training=False, eps=ctx.eps
            )
            by_x = _as_it_was(by_x.addcmul_(gradient, scale.repeat(ctx.times).view(1, -1, 1, 1)), x)
        return by_x, by_weight, by_bias, None, None


def _side_by_side(x: torch.Tensor, times: int) -> torch.Tensor:
    """(B, C, H, W) in channels-last as (B, times * C, H, W / times): a view."""
    batch, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).view(batch, height, width // times, times * channels).permute(0, 3, 1, 2)


def _as_it_was(wide: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Of the shape of x: the same memory, but no view, since what a Function returns may be changed in place."""
    return wide.new_empty(0).set_(wide.untyped_storage(), 0, x.shape, x.stride())


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, for channels that do not fill a vector register of a CPU, see :func:`quicken`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        channels, width = x.shape[1], x.shape[3]
        times = math.gcd(math.lcm(channels, LANES) // channels, width)
        if not (self.training and times > 1 and _in_bfloat16(x)) or torch.compiler.is_compiling():
            return super().forward(x)
        y, mean, variance = _BatchNorm.apply(
            x.contiguous(memory_format=torch.channels_last), self.weight, self.bias, self.eps, times
        )
        with torch.no_grad():
            values = x.numel() / channels
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (values / (values - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        return y


def _in_bfloat16(x: torch.Tensor) -> bool:
    """Whether a convolution of this tensor is done by a CPU in bfloat16."""
    return x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == BF16


def quicken(network: nn.Module) -> nn.Module:
    """A network's batch norms, depthwise and transposed convolutions become the classes above; weights stay."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and _fits(layer):
            layer.__class__ = DepthwiseConv2d
        elif type(layer) is nn.ConvTranspose2d:
            layer.__class__ = TransposedConv2d
        elif type(layer) is nn.BatchNorm2d and layer.num_features % (LANES // 2) and _tracks(layer):
            layer.__class__ = BatchNorm2d  # half a register is no slower
    return network


def _fits(layer: nn.Conv2d) -> bool:
    depthwise = layer.groups == layer.in_channels == layer.out_channels > 1
    plain = layer.padding_mode == "zeros" and layer.dilation == (1, 1) and not isinstance(layer.padding, str)
    return depthwise and plain and all(p < k for p, k in zip(layer.padding, layer.kernel_size))


def _tracks(layer: nn.BatchNorm2d) -> bool:
    return layer.affine and layer.track_running_stats and layer.momentum is not None
