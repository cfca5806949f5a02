from __future__ import annotations

import torch

from ocr.models.onnx.fold import fold_batch_norms
from ocr.models.onnx.graph import GraphDetector


def conv(name: str, source: str, channels: tuple[int, int], **settings) -> dict:
    shape = {"in_channels": channels[0], "out_channels": channels[1], "kernel_size": 3, "padding": 1}
    return {"op": "conv", "name": name, "inputs": [source], **shape, **settings}


def norm(name: str, source: str, channels: int) -> dict:
    return {"op": "batch_norm", "name": name, "inputs": [source], "num_features": channels, "eps": 1e-5}


def normed_detector() -> GraphDetector:
    """As a run with batch norms has stored it: norms behind three convolutions, a gate, a threshold branch."""
    torch.manual_seed(0)
    network = GraphDetector(
        [
            conv("first", "image", (3, 8), stride=2, bias=False),
            norm("norm_first", "first", 8),
            {"op": "relu", "name": "relu", "inputs": ["norm_first"]},
            conv("depthwise", "relu", (8, 8), groups=8, bias=False),
            norm("norm_depthwise", "depthwise", 8),
            {"op": "mean", "name": "pooled", "inputs": ["norm_depthwise"]},
            conv("squeeze", "pooled", (8, 8)),
            {"op": "sigmoid", "name": "gate", "inputs": ["squeeze"]},
            {"op": "mul", "name": "gated", "inputs": ["norm_depthwise", "gate"]},
            conv("head", "gated", (8, 4), bias=False),
            norm("norm_head", "head", 4),
            {"op": "relu", "name": "head_relu", "inputs": ["norm_head"]},
            {"op": "deconv", "name": "up", "inputs": ["head_relu"], "in_channels": 4, "out_channels": 1,
             "kernel_size": 2, "stride": 2},
        ]
    )  # fmt: skip
    network.start_threshold_branch()
    network.train()
    with torch.no_grad():
        for _ in range(5):  # running statistics of their own
            network(torch.randn(2, 3, 64, 64) * 2 + 1)
    return network.eval()


def test_folding_changes_nothing():
    made = normed_detector()
    folded = fold_batch_norms(made)
    assert [node["name"] for node in made.nodes if node["op"] == "batch_norm"] == [
        "norm_first", "norm_depthwise", "norm_head"
    ]  # fmt: skip
    assert not [node for node in folded.nodes if node["op"] == "batch_norm"]
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        before, after = made(image).probability, folded(image).probability
        assert before.abs().max() > 0.01
        torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
        made.layers.eval(), folded.layers.eval()  # statistics stand still, the threshold branch runs
        made.training = folded.training = True
        torch.testing.assert_close(made(image).threshold, folded(image).threshold, atol=1e-5, rtol=1e-4)
    assert fold_batch_norms(folded) is folded
