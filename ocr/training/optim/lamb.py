"""LAMB with a trust ratio for each filter: the optimizer of networks whose batch norms were folded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

SMALLEST = 0.1  # of the root mean square over a tensor's filters: what a filter's norm counts at least
QUIET = 0.1  # root mean square that a direction counts at least; with betas of 0.9 and 0.999 mere noise gives 0.23
EPS = 1e-8  # added to the root of the second moment


class FilterLamb(torch.optim.Optimizer):
    """Adam's direction, its length a share of the norm of what it changes (You et al. 2020, algorithm 2).

    There the norm is that of a whole tensor. Here each output filter of a tensor has its own, as in Brock et al. 2021,
    section 4.1: a folded batch norm multiplies every filter by a factor of its own, and a step that suits the strong
    ones would wipe out the weak ones. A filter that gets no gradient comes to rest; scaled to full length, what is left
    of its direction would keep it moving until the factor overflows. Tensors with one axis longer than 1 (biases,
    factors) are taken whole; where all is zero the step is Adam's.

    Args:
        params: parameters or groups of them, as of any optimizer.
        filter_axes: the axis of the output filters by parameter, where it is not the first, see :func:`filter_axes`.
        lr: relative length of a step.
        betas: decay of the first and second moments.
        weight_decay: decoupled, a share of the weights added to the direction before it is scaled.
    """

    def __init__(
        self,
        params: Iterable[Any],
        filter_axes: dict[nn.Parameter, int],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self._axes = {id(parameter): axis for parameter, axis in filter_axes.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step over all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        step, (beta1, beta2) = state["step"].item(), group["betas"]
        mean, square, gradient = state["mean"], state["square"], parameter.grad
        mean.lerp_(gradient, 1 - beta1)
        square.lerp_(gradient.square(), 1 - beta2)
        root = (square / (1 - beta2**step)).sqrt_().add_(EPS)
        direction = (mean / (1 - beta1**step)).div_(root).add_(parameter, alpha=group["weight_decay"])
        direction *= trust(parameter, direction, self._axes.get(id(parameter), 0))
        parameter.add_(direction, alpha=-group["lr"])


def trust(weight: torch.Tensor, direction: torch.Tensor, filter_axis: int) -> torch.Tensor:
    """Norms of the weights over norms of the direction, by filter or of all, to multiply the direction with."""
    whole = weight.squeeze().ndim <= 1
    axes = [k for k in range(weight.ndim) if whole or k != filter_axis]
    weights, steps = (t.square().mean(axes, keepdim=True) for t in (weight, direction))
    weights = torch.maximum(weights, SMALLEST**2 * weights.mean())
    return torch.where(weights > 0, (weights / steps.clamp(min=QUIET**2)).sqrt(), 1.0)


def filter_axes(model: nn.Module) -> dict[nn.Parameter, int]:
    """The axis of output filters of those weights in which it is not the first: transposed convolutions."""
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return {layer.weight: 1 for layer in model.modules() if isinstance(layer, transposed)}
