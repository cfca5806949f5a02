"""Fusion of ONNX nodes: exporters spread one layer over many nodes, which are put together again.

A bias added after a convolution, a batch norm or a scalar factor behind it, GELU and hard swish. That changes results
by rounding only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]


def fuse(nodes: list[dict[str, Any]], weights: Weights) -> tuple[list[dict[str, Any]], Weights]:
    """Nodes and weights of the same function with fewer nodes, renumbered.

    Args:
        nodes: see :mod:`ocr.models.onnx.graph`, the last one the result; changed in place.
        weights: float32 arrays by ``<node>.<parameter>``; those of other nodes are left out.
    """
    return _Fuser(nodes, weights).run()


def leading_to(nodes: Sequence[dict[str, Any]], last: str) -> list[dict[str, Any]]:
    """The nodes that the one called ``last`` needs, itself among them, in their order."""
    makers = {node["name"]: node for node in nodes}
    needed, queue = set(), [last]
    while queue:
        name = queue.pop()
        if name in makers and name not in needed:
            needed.add(name)
            queue += makers[name]["inputs"]
    return [node for node in nodes if node["name"] in needed]


class _Fuser:
    def __init__(self, nodes: list[dict[str, Any]], weights: Weights) -> None:
        self.nodes, self.weights = nodes, weights
        self.makers: dict[str, dict[str, Any]] = {}
        self.uses: Counter[str] = Counter()

    def run(self) -> tuple[list[dict[str, Any]], Weights]:
        for rule in (self._fuse_gelu, self._fuse_hardswish, self._fuse_affine):
            self.makers = {node["name"]: node for node in self.nodes}
            self.uses = Counter(name for node in self.nodes for name in node["inputs"])
            self.uses[self.nodes[-1]["name"]] += 1
            for node in list(self.nodes):
                if node["name"] in self.makers:
                    rule(node)
            self.nodes = leading_to(self.nodes, self.nodes[-1]["name"])
        self.weights = {k: v for k, v in self.weights.items() if k.split(".")[0] in {n["name"] for n in self.nodes}}
        self._number_again()
        return self.nodes, self.weights

    def _maker(self, name: str, op: str, uses: int = 1) -> dict[str, Any] | None:
        node = self.makers.get(name)
        return node if node is not None and node["op"] == op and self.uses[name] <= uses else None

    def _scalar(self, node: dict[str, Any] | None, key: str, value: float) -> bool:
        """Whether an affine node does nothing but add or multiply by one number."""
        if node is None or node["op"] != "affine":
            return False
        other = "shift" if key == "scale" else "scale"
        return (
            node[other] == 0
            and node[key] == 1
            and abs(float(self.weights[f"{node['name']}.{key}"][0, 0, 0]) - value) < 1e-4
        )

    def _become(self, node: dict[str, Any], op: str, source: str, **settings: Any) -> None:
        """Replace a node in place; its name, and so its users, stay."""
        name = node["name"]
        for key in ("scale", "shift"):
            self.weights.pop(f"{name}.{key}", None)
        node.clear()
        node |= {"op": op, "name": name, "inputs": [source], **settings}

    def _fuse_gelu(self, node: dict[str, Any]) -> None:
        """X * (1 + erf(x / sqrt 2)) * 0.5, the factor last."""
        if not self._scalar(node, "scale", 0.5) or (product := self._maker(node["inputs"][0], "mul")) is None:
            return
        for source, name in (product["inputs"], product["inputs"][::-1]):
            plus = self._maker(name, "affine")
            erf = self._maker(plus["inputs"][0], "erf") if plus and self._scalar(plus, "shift", 1.0) else None
            inner = self._maker(erf["inputs"][0], "affine") if erf else None
            if inner and self._scalar(inner, "scale", 0.5**0.5) and inner["inputs"] == [source]:
                return self._become(node, "gelu", source, approximate="none")

    def _fuse_hardswish(self, node: dict[str, Any]) -> None:
        """X * clip(x + 3, 0, 6) / 6, and x * hardsigmoid(x) with slope 1/6."""
        product = node if node["op"] == "mul" else None
        if self._scalar(node, "scale", 1 / 6):
            product = self._maker(node["inputs"][0], "mul")
        for source, name in (product["inputs"], product["inputs"][::-1]) if product else ():
            clip = self._maker(name, "clip")
            plus = self._maker(clip["inputs"][0], "affine") if clip and (clip["low"], clip["high"]) == (0, 6) else None
            gate = self._maker(name, "hardsigmoid")
            if product is not node and plus and self._scalar(plus, "shift", 3.0) and plus["inputs"] == [source]:
                return self._become(node, "hardswish", source)
            slope = (gate["alpha"], gate["beta"]) if gate and gate["inputs"] == [source] else (0, 0)
            if product is node and abs(slope[0] - 1 / 6) < 1e-4 and abs(slope[1] - 0.5) < 1e-6:
                return self._become(node, "hardswish", source)

    def _fuse_affine(self, node: dict[str, Any]) -> None:
        """Into the convolution or the other affine before it."""
        if node["op"] != "affine":
            return
        before = self.makers.get(node["inputs"][0])
        if before is None or self.uses[before["name"]] > 1 or before["op"] not in ("conv", "deconv", "affine"):
            return
        scale, shift = (self.weights.get(f"{node['name']}.{key}") for key in ("scale", "shift"))
        if before["op"] == "affine":
            old_scale, old_shift = (self.weights.get(f"{before['name']}.{key}") for key in ("scale", "shift"))
            if scale is not None:
                old_scale = scale if old_scale is None else old_scale * scale
                old_shift = None if old_shift is None else old_shift * scale
            if shift is not None:
                old_shift = shift if old_shift is None else old_shift + shift
            for key, value in (("scale", old_scale), ("shift", old_shift)):
                before[key] = 0 if value is None else value.size
                if value is not None:
                    self.weights[f"{before['name']}.{key}"] = value
        else:
            self._into_convolution(before, scale, shift)
        self._replace(node["name"], before["name"])

    def _into_convolution(self, conv: dict[str, Any], scale: np.ndarray | None, shift: np.ndarray | None) -> None:
        name, channels = conv["name"], conv["out_channels"]
        weight = self.weights[f"{name}.weight"].astype(np.float64)
        bias = self.weights.get(f"{name}.bias", np.zeros(channels)).astype(np.float64)
        if scale is not None:
            factor = np.broadcast_to(scale.reshape(-1), channels).astype(np.float64)
            bias = bias * factor
            if conv["op"] == "conv":
                weight = weight * factor[:, None, None, None]
            else:  # (in, out / groups, kernel): groups lie along the first axis
                groups = conv["groups"]
                shaped = weight.reshape(groups, -1, *weight.shape[1:])
                weight = (shaped * factor.reshape(groups, 1, -1, 1, 1)).reshape(weight.shape)
        if shift is not None:
            bias = bias + np.broadcast_to(shift.reshape(-1), channels)
        conv["bias"] = True
        self.weights[f"{name}.weight"] = weight.astype(np.float32)
        self.weights[f"{name}.bias"] = bias.astype(np.float32)

    def _replace(self, old: str, new: str) -> None:
        del self.makers[old]
        self.nodes = [node for node in self.nodes if node["name"] != old]
        for node in self.nodes:
            node["inputs"] = [new if name == old else name for name in node["inputs"]]
        self.uses[new] = self.uses.pop(old, 0)

    def _number_again(self) -> None:
        """Names without gaps, whatever was put together."""
        counts: Counter[str] = Counter()
        names = {"image": "image"}
        for node in self.nodes:
            names[node["name"]] = f"{node['op']}_{counts[node['op']]}"
            counts[node["op"]] += 1
        for node in self.nodes:
            node["name"] = names[node["name"]]
            node["inputs"] = [names[name] for name in node["inputs"]]
        parts = {key: key.split(".") for key in self.weights}
        self.weights = {f"{names[node]}.{key}": self.weights[old] for old, (node, key) in parts.items()}
