"""A detector as a list of nodes: trainable, rebuilt from plain data, whatever framework it came from.

A node is a dict of plain types: ``op`` (a key of :data:`OPS`), ``name`` (unique, the prefix of its weights in the
``state_dict``), ``inputs`` (names of nodes, or ``image``) and the settings of the op. The list is in the order of
execution and the last node gives the logits of the probability map. A checkpoint holds the list, so that nobody who
loads one needs the file or the package that the network was read from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ocr.models.detector import Maps

Node = Mapping[str, Any]
IMAGE = "image"
THRESHOLD = "threshold_"  # prefix of the nodes of the threshold branch


class Affine(nn.Module):
    """x * scale + shift, either of them scalar or a value per channel, or absent."""

    def __init__(self, scale: int, shift: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(scale, 1, 1)) if scale else None
        self.shift = nn.Parameter(torch.zeros(shift, 1, 1)) if shift else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scale is None:
            return x if self.shift is None else x + self.shift
        return x * self.scale if self.shift is None else torch.addcmul(self.shift, x, self.scale)


class Function(nn.Module):
    """A function without weights as a layer of one input or several."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)


def _concat(*parts: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts, dim=1)


def _hard_sigmoid(x: torch.Tensor, alpha: float, beta: float) -> torch.Tensor:
    """clamp(alpha x + beta, 0, 1); torch's own has alpha 1/6 only."""
    return (x * alpha + beta).clamp(0, 1)


OPS: dict[str, Callable[..., nn.Module]] = {
    "conv": nn.Conv2d,
    "deconv": nn.ConvTranspose2d,
    "batch_norm": nn.BatchNorm2d,
    "affine": Affine,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
    "hardsigmoid": lambda alpha, beta: Function(partial(_hard_sigmoid, alpha=alpha, beta=beta)),
    "sigmoid": nn.Sigmoid,
    "clip": lambda low, high: Function(partial(torch.clamp, min=low, max=high)),
    "mean": lambda: Function(partial(torch.mean, dim=(2, 3), keepdim=True)),
    "max_pool": nn.MaxPool2d,
    "avg_pool": nn.AvgPool2d,
    "upsample": lambda scale, mode: Function(partial(F.interpolate, scale_factor=float(scale), mode=mode)),
    "pad": lambda pads, value: Function(partial(F.pad, pad=tuple(pads), value=value)),  # left, right, top, bottom
    "add": lambda: Function(torch.add),
    "mul": lambda: Function(torch.mul),
    "concat": lambda: Function(_concat),
}
_NOT_SETTINGS = ("op", "name", "inputs")


class GraphDetector(nn.Module):
    """A DB detector given as nodes, with a threshold branch for training.

    The threshold branch has the structure of the probability branch, as in Liao et al. 2020, section 3.1: the nodes
    after the last one that joins several tensors (the neck's output), under names with :data:`THRESHOLD` in front.

    Args:
        nodes: see the module's text; without a threshold branch.

    Attributes:
        nodes: as given.
        head: names of the nodes of the probability branch, in order.

    Raises:
        ValueError: an unknown op, or a node whose input comes later.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__()
        self.nodes = [deepcopy(dict(node)) for node in nodes]
        self.head = head_of(self.nodes)
        renamed = {name: THRESHOLD + name for name in self.head}
        branch = [
            {**node, "name": renamed[node["name"]], "inputs": [renamed.get(name, name) for name in node["inputs"]]}
            for node in self.nodes
            if node["name"] in renamed
        ]
        self._train_run = _with_last_uses(self.nodes + branch, {self.nodes[-1]["name"], branch[-1]["name"]})
        self._run = _with_last_uses(self.nodes, {self.nodes[-1]["name"]})
        known = {IMAGE}
        self.layers = nn.ModuleDict()
        for node, _ in self._train_run:
            if node["op"] not in OPS:
                raise ValueError(f"unknown op {node['op']!r}")
            if not known.issuperset(node["inputs"]):
                raise ValueError(f"{node['name']}: unknown inputs {sorted(set(node['inputs']) - known)}")
            known.add(node["name"])
            self.layers[node["name"]] = OPS[node["op"]](**{k: v for k, v in node.items() if k not in _NOT_SETTINGS})

    @property
    def blueprint(self) -> dict[str, Any]:
        """Config that builds the same network, without its weights: plain types."""
        return {"_target_": "ocr.models.onnx.graph.GraphDetector", "nodes": deepcopy(self.nodes)}

    def forward(self, x: torch.Tensor) -> Maps:
        """Float (B, 3, H, W), normalised, H and W multiples of the coarsest stride, to logits (B, 1, H, W)."""
        run = self._train_run if self.training else self._run
        values = {IMAGE: x}
        for node, unneeded in run:
            values[node["name"]] = self.layers[node["name"]](*[values[name] for name in node["inputs"]])
            for name in unneeded:
                del values[name]
        return Maps(values[self.nodes[-1]["name"]], values[run[-1][0]["name"]] if self.training else None)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by part, for learning rates of their own.

        ``stem``, the layers before the image is a quarter of its size; ``scalars``, single factors and shifts outside
        the head; ``body``, the rest; ``head``; and the ``threshold`` branch.
        """
        parts: dict[str, list[nn.Parameter]] = {name: [] for name in ("stem", "scalars", "body", "head", "threshold")}
        stem = stem_of(self.nodes)
        for key, parameter in self.layers.named_parameters():
            layer = key.split(".")[0]
            if layer.startswith(THRESHOLD):
                part = "threshold"
            elif layer in self.head:
                part = "head"
            else:
                part = "scalars" if parameter.numel() == 1 else "stem" if layer in stem else "body"
            parts[part].append(parameter)
        return parts

    @property
    def _last(self) -> str:
        """The last convolution of the probability branch."""
        convolutions = [node["name"] for node in self.nodes if node["op"] in ("conv", "deconv")]
        return next(name for name in reversed(self.head) if name in convolutions)

    @torch.no_grad()
    def scale_logits(self, factor: float) -> None:
        """Multiply the logits by a factor, in the weights of the last convolution.

        Raises:
            ValueError: what follows that convolution is not linear.
        """
        if factor == 1:
            return
        if self._last != self.head[-1]:
            raise ValueError(f"the logits are not the output of a convolution but of {self.head[-1]}")
        for parameter in self.layers[self._last].parameters():
            parameter.mul_(factor)

    @torch.no_grad()
    def start_threshold_branch(self) -> None:
        """The threshold branch starts as a copy of the probability branch, its last layer from small random weights.

        Both look at the same features, whose scale is the trained network's own: weights drawn without regard to it
        would saturate the branch for good.
        """
        for name in self.head:
            self.layers[THRESHOLD + name].load_state_dict(self.layers[name].state_dict())
        trained, last = self.layers[self._last], self.layers[THRESHOLD + self._last]
        assert isinstance(trained, nn.ConvTranspose2d | nn.Conv2d)
        assert isinstance(last, nn.ConvTranspose2d | nn.Conv2d)
        nn.init.normal_(last.weight, std=0.1 * float(trained.weight.square().mean().sqrt()))
        if last.bias is not None:
            nn.init.zeros_(last.bias)


def head_of(nodes: Sequence[Node]) -> list[str]:
    """Names of the nodes from the neck's output to the end: the chain of nodes with one input each, used once."""
    makers = {node["name"]: node for node in nodes}
    uses = Counter(name for node in nodes for name in node["inputs"])
    chain: list[str] = []
    node: Node | None = nodes[-1]
    while node is not None and len(node["inputs"]) == 1 and uses[node["name"]] <= 1:
        chain.append(node["name"])
        node = makers.get(node["inputs"][0])
    if not any(makers[name]["op"] in ("conv", "deconv") for name in chain):
        raise ValueError("there is no head: the last nodes hold no convolution")
    return chain[::-1]


def stem_of(nodes: Sequence[Node]) -> set[str]:
    """Names of the first nodes, up to the one that brings the stride to 4."""
    stride: dict[str, int] = {IMAGE: 1}
    stem: set[str] = set()
    for node in nodes:
        step = node.get("stride", 1)
        step = step if isinstance(step, int) else step[0]
        stride[node["name"]] = max(stride[name] for name in node["inputs"]) * step
        if stride[node["name"]] >= 4:
            return stem
        stem.add(node["name"])
    return stem


def _with_last_uses(nodes: Sequence[Node], keep: set[str]) -> list[tuple[Node, list[str]]]:
    """Each node with the names whose values no later node needs."""
    seen, run = set(keep), []
    for node in reversed(nodes):
        last = [name for name in dict.fromkeys(node["inputs"]) if name not in seen]
        seen.update(last)
        run.append((node, last))
    return run[::-1]
