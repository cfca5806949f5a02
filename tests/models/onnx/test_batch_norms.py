from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocr.models.onnx.batch_norms import with_batch_norms, without_batch_norms
from ocr.models.onnx.graph import GraphDetector


def conv(name: str, source: str, channels: tuple[int, int], **settings) -> dict:
    shape = {"in_channels": channels[0], "out_channels": channels[1], "kernel_size": 3, "padding": 1}
    return {"op": "conv", "name": name, "inputs": [source], **shape, **settings}


def small_detector() -> GraphDetector:
    """Two convolutions, a gate over pooled values, a neck of one, a head with a transposed convolution."""
    return GraphDetector(
        [
            conv("first", "image", (3, 8), stride=2),
            {"op": "relu", "name": "relu", "inputs": ["first"]},
            conv("depthwise", "relu", (8, 8), groups=8, bias=False),
            {"op": "mean", "name": "pooled", "inputs": ["depthwise"]},
            conv("squeeze", "pooled", (8, 8)),
            {"op": "sigmoid", "name": "gate", "inputs": ["squeeze"]},
            {"op": "mul", "name": "gated", "inputs": ["depthwise", "gate"]},
            conv("head", "gated", (8, 4)),
            {"op": "relu", "name": "head_relu", "inputs": ["head"]},
            {"op": "deconv", "name": "up", "inputs": ["head_relu"], "in_channels": 4, "out_channels": 1,
             "kernel_size": 2, "stride": 2},
        ]
    )  # fmt: skip


@pytest.fixture
def detector() -> GraphDetector:
    torch.manual_seed(0)
    network = small_detector()
    with torch.no_grad():  # as folding leaves it: filters of very different strength, one dead
        network.layers["first"].weight.mul_(torch.logspace(-2, 2, 8).view(-1, 1, 1, 1))
        network.layers["depthwise"].weight[3] = 0
    network.start_threshold_branch()
    return network.eval()


def same(a: GraphDetector, b: GraphDetector, size: tuple[int, int] = (64, 96)) -> bool:
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        x, y = a(image).probability, b(image).probability
    return torch.allclose(x, y, atol=1e-4 * float(x.abs().max()))


def test_a_network_with_its_norms_back_computes_the_same(detector: GraphDetector):
    made = with_batch_norms(detector, [torch.randn(4, 3, 64, 64)])
    normed = [node["inputs"][0] for node in made.nodes if node["op"] == "batch_norm"]
    assert normed == ["first", "depthwise", "head"], "not the gate's, which sees one value an image; not the logits'"
    assert same(detector, made) and not made.training
    before, after = (m.layers["first"].weight.flatten(1).norm(dim=1) for m in (detector, made))
    assert before.max() / before.min() > 1000 and after.max() / after.min() < 3, "filters are alike again"


def test_in_training_it_starts_where_the_network_stood(detector: GraphDetector):
    """On the images of the statistics, the norms of a batch are those that were stored."""
    images = torch.randn(4, 3, 64, 64)
    made = with_batch_norms(detector, [images]).train()
    with torch.no_grad():
        before, after = detector.train()(images), made(images)
    for a, b in zip((before.probability, before.threshold), (after.probability, after.threshold)):
        assert torch.allclose(a, b, atol=1e-3 * float(a.abs().max()))


def test_folding_after_training_changes_nothing(detector: GraphDetector):
    made = with_batch_norms(detector, [torch.randn(4, 3, 64, 64)]).train()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05)
    for seed in range(5):
        torch.manual_seed(seed)
        maps = made(torch.randn(2, 3, 64, 64) * 2 + 1)
        (maps.probability.square().mean() + maps.threshold.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    folded = without_batch_norms(made.eval())
    assert same(made, folded) and not same(detector, folded)
    assert [node["name"] for node in folded.nodes] == [node["name"] for node in detector.nodes]
    image = torch.randn(1, 3, 64, 64)
    made.layers.eval(), folded.layers.eval()  # statistics stand still, the threshold branch runs
    made.training = folded.training = True
    assert torch.allclose(made(image).threshold, folded(image).threshold, atol=1e-4)


def test_norms_are_put_back_once(detector: GraphDetector):
    images = [torch.randn(2, 3, 64, 64)]
    made = with_batch_norms(detector, images)
    assert with_batch_norms(made, images) is made and without_batch_norms(detector) is detector
    with pytest.raises(ValueError, match="images"):
        with_batch_norms(detector, [])


@pytest.mark.parametrize("name", ["ppocr_v4", "ppocr_v6"])
def test_of_the_stock_detectors(name: str, tmp_path: Path):
    pytest.importorskip({"ppocr_v4": "rapidocr_onnxruntime", "ppocr_v6": "rapidocr"}[name])
    from ocr.models.pretrained.ppocr import pretrained_detector

    stock = pretrained_detector(name, 6.0).eval()
    made = with_batch_norms(stock, [torch.randn(1, 3, 160, 160)])
    folded = without_batch_norms(made)
    assert same(stock, made) and same(stock, folded)
    assert set(folded.state_dict()) - set(stock.state_dict()) <= {k for k in folded.state_dict() if "bias" in k}
    assert {k: len(v) for k, v in folded.parts().items()}.keys() == stock.parts().keys()
