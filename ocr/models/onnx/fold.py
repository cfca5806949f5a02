"""Batch norms of a trained graph folded into its convolutions, for use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import nn

from ocr.models.onnx.graph import THRESHOLD, GraphDetector, Node


def fold_batch_norms(network: GraphDetector) -> GraphDetector:
    """A network that computes in evaluation what the given one does, its batch norms part of the convolutions."""
    makers = {node["name"]: node for node in network.nodes}
    uses = [name for node in network.nodes for name in node["inputs"]]
    folded = {
        node["name"]: node["inputs"][0]
        for node in network.nodes
        if node["op"] == "batch_norm"
        and _is_plain(makers.get(node["inputs"][0]))
        and uses.count(node["inputs"][0]) == 1
        and node["name"] != network.nodes[-1]["name"]
    }
    if not folded:
        return network
    nodes = []
    for node in network.nodes:
        if node["name"] in folded:
            continue
        node = {**deepcopy(dict(node)), "inputs": [folded.get(name, name) for name in node["inputs"]]}
        nodes.append(node | ({"bias": True} if node["name"] in folded.values() else {}))
    state = {key.removeprefix("layers."): value.detach().clone() for key, value in network.state_dict().items()}
    for norm, name in folded.items():
        for prefix in ("", THRESHOLD) if name in network.head else ("",):
            _merge(state, prefix + name, network.layers[prefix + name], prefix + norm, network.layers[prefix + norm])
    return _rebuilt(network, nodes, state)


def _is_plain(node: Node | None) -> bool:
    """A convolution whose filters lie along one axis of its weights."""
    return node is not None and (node["op"] == "conv" or (node["op"] == "deconv" and node.get("groups", 1) == 1))


def _merge(state: dict[str, torch.Tensor], name: str, layer: nn.Module, norm: str, norm_layer: nn.Module) -> None:
    weight = state[f"{name}.weight"]
    bias = state.get(f"{name}.bias", torch.zeros_like(state[f"{norm}.running_mean"])).double()
    parts = {key: state.pop(f"{norm}.{key}").double() for key in ("weight", "bias", "running_mean", "running_var")}
    state.pop(f"{norm}.num_batches_tracked", None)
    assert isinstance(norm_layer, nn.BatchNorm2d)
    factor = parts["weight"] / (parts["running_var"] + norm_layer.eps).sqrt()
    state[f"{name}.weight"] = (weight.double() * _along_filters(layer, factor)).to(weight.dtype)
    state[f"{name}.bias"] = ((bias - parts["running_mean"]) * factor + parts["bias"]).to(weight.dtype)


def _along_filters(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Values (C,) a filter in the shape of a convolution's weights."""
    return values.view(1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else values.view(-1, 1, 1, 1)


def _rebuilt(network: GraphDetector, nodes: Sequence[Node], state: Mapping[str, torch.Tensor]) -> GraphDetector:
    rebuilt = GraphDetector(nodes)
    rebuilt.load_state_dict({f"layers.{key}": value for key, value in state.items()})
    parameter = next(network.parameters())
    return rebuilt.to(device=parameter.device, dtype=parameter.dtype).train(network.training)
