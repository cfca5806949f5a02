"""Batch norms that an exporter folded into the convolutions: put back for training, folded again for use.

Folding multiplies every filter by a factor of its own, so that one convolution's outputs are thousands of times
another's, and a learning rate that suits one filter is wrong for its neighbour. With the norms back (Ioffe & Szegedy
2015), each with the statistics that its channel has on the images at hand, the network computes the same and learns
as it did before it was exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from ocr.models.onnx.graph import THRESHOLD, GraphDetector, Node, head_of

NORM = "norm_"  # prefix of the norm behind a convolution
EPS = 1e-5
LEAST = 1e-4  # of the median variance of a layer: what a channel that is always the same counts


def with_batch_norms(network: GraphDetector, images: Iterable[torch.Tensor]) -> GraphDetector:
    """A network that computes the same in evaluation, a batch norm behind each convolution that has none.

    Left as they are: the last convolution, which gives the logits, and those of pooled values (squeeze and
    excitation), which see one value an image. The threshold branch is that of the network, normed likewise.

    Args:
        network: on the device of the images.
        images: float (B, 3, H, W), normalised: what the statistics are taken from.

    Raises:
        ValueError: there are no images.
    """
    wanted = _without_norm(network.nodes)
    if not wanted:
        return network
    statistics = _statistics(network, [*wanted, *(THRESHOLD + name for name in wanted if name in network.head)], images)
    nodes: list[dict[str, Any]] = []
    renamed: dict[str, str] = {}
    for node in network.nodes:
        node = {**deepcopy(dict(node)), "inputs": [renamed.get(name, name) for name in node["inputs"]]}
        nodes.append(node)
        if node["name"] in wanted:
            node["bias"] = False
            renamed[node["name"]] = NORM + node["name"]
            nodes.append({"op": "batch_norm", "name": NORM + node["name"], "inputs": [node["name"]],
                          "num_features": node["out_channels"], "eps": EPS})  # fmt: skip
    state = {key.removeprefix("layers."): value.detach().clone() for key, value in network.state_dict().items()}
    for name, (mean, variance) in statistics.items():
        _split(state, name, network.layers[name], mean, variance)
    return _rebuilt(network, nodes, state)


def without_batch_norms(network: GraphDetector) -> GraphDetector:
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


def _without_norm(nodes: Sequence[Node]) -> list[str]:
    """Convolutions of features, but for the last one of all, that no batch norm follows."""
    normed = {name for node in nodes if node["op"] == "batch_norm" for name in node["inputs"]}
    pooled: set[str] = set()
    for node in nodes:
        if node["op"] == "mean" or (len(node["inputs"]) == 1 and node["inputs"][0] in pooled):
            pooled.add(node["name"])
    plain = [node["name"] for node in nodes if _is_plain(node)]
    head = set(head_of(nodes))
    last = next(name for name in reversed(plain) if name in head)
    return [name for name in plain if name not in normed | pooled | {last}]


@torch.no_grad()
def _statistics(
    network: GraphDetector, names: Sequence[str], images: Iterable[torch.Tensor]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Mean and variance of each channel of some layers' outputs, float64, over all pixels of all images."""
    sums: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            values = output.double()
            ones = torch.full_like(values[0, :, 0, 0], values.numel() / values.shape[1])
            sums[name] = sums.get(name, 0) + torch.stack([ones, values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])

        return network.layers[name].register_forward_hook(hook)

    hooks = [watch(name) for name in names]
    training = network.training
    try:
        network.train()  # the threshold branch is there in training only; no layer of a plain graph differs otherwise
        for batch in images:
            network.forward(batch)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    if not sums:
        raise ValueError("batch norms need images to take their statistics from")
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        found[name] = mean, (squares / count - mean.square()).clamp(min=0)
    return found


def _split(
    state: dict[str, torch.Tensor], name: str, layer: nn.Module, mean: torch.Tensor, variance: torch.Tensor
) -> None:
    """A convolution's weights to filters of outputs with variance 1, and the norm that undoes it."""
    floor = LEAST * variance.median().clamp(min=1e-12)
    deviation = variance.maximum(floor).sqrt()
    weight = state[f"{name}.weight"]
    bias = state.pop(f"{name}.bias", torch.zeros_like(mean))
    left = variance / deviation.square()  # 1, or less where the floor holds
    state[f"{name}.weight"] = (weight.double() / _along_filters(layer, deviation)).to(weight.dtype)
    norm = NORM + name if not name.startswith(THRESHOLD) else THRESHOLD + NORM + name.removeprefix(THRESHOLD)
    parts = {
        "weight": deviation * (left + EPS).sqrt(),
        "bias": mean,
        "running_mean": (mean - bias.double()) / deviation,
        "running_var": left,
    }
    state.update({f"{norm}.{key}": value.to(weight.dtype) for key, value in parts.items()})
    state[f"{norm}.num_batches_tracked"] = torch.tensor(0, device=weight.device)


def _merge(state: dict[str, torch.Tensor], name: str, layer: nn.Module, norm: str, norm_layer: nn.Module) -> None:
    weight = state[f"{name}.weight"]
    bias = state.get(f"{name}.bias", torch.zeros_like(state[f"{norm}.running_mean"])).double()
    parts = {key: state.pop(f"{norm}.{key}").double() for key in ("weight", "bias", "running_mean", "running_var")}
    state.pop(f"{norm}.num_batches_tracked", None)
    factor = parts["weight"] / (parts["running_var"] + norm_layer.eps).sqrt()
    state[f"{name}.weight"] = (weight.double() * _along_filters(layer, factor)).to(weight.dtype)
    state[f"{name}.bias"] = ((bias - parts["running_mean"]) * factor + parts["bias"]).to(weight.dtype)


def _along_filters(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Values (C,) a filter in the shape of a convolution's weights."""
    return values.view(1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else values.view(-1, 1, 1, 1)


def _rebuilt(network: GraphDetector, nodes: Sequence[Node], state: Mapping[str, torch.Tensor]) -> GraphDetector:
    made = GraphDetector(nodes)
    made.load_state_dict({f"layers.{key}": value for key, value in state.items()})
    parameter = next(network.parameters())
    return made.to(device=parameter.device, dtype=parameter.dtype).train(network.training)
