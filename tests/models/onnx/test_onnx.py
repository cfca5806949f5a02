"""Networks from ONNX files and back: the same numbers on both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from ocr.errors import UserError
from ocr.models.onnx.export import INPUT, OUTPUT, export_onnx, to_fp16
from ocr.models.onnx.graph import THRESHOLD, GraphDetector, head_of
from ocr.models.onnx.nodes import read_onnx
from ocr.models.onnx.runtime import OnnxDetector
from ocr.models.pretrained.ppocr import PACKAGED, pretrained_detector, weights_file
from ocr.pipeline import Pipeline


class Spread(nn.Module):
    """Everything that exporters spread over several nodes, in one small detector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.fuse = nn.Conv2d(16, 8, 3, padding=1, bias=False)
        self.fuse_norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2, bias=False)
        self.up_norm = nn.BatchNorm2d(4)
        self.last = nn.ConvTranspose2d(4, 1, 2, 2)
        for norm in (self.norm, self.fuse_norm, self.up_norm):
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        x = x * (x + 3).clamp(0, 6) / 6  # hard swish in pieces
        x = self.wide(x) * 1.7 - 0.3
        x = x * (1 + torch.erf(x / 2**0.5)) * 0.5  # GELU in pieces
        fine = self.down(x)
        fine = fine * torch.sigmoid(self.gate(fine.mean((2, 3), keepdim=True)))
        coarse = nn.functional.max_pool2d(fine, 2)
        coarse = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        x = torch.relu(self.fuse_norm(self.fuse(torch.cat([fine, coarse], 1))))
        return torch.sigmoid(self.last(torch.relu(self.up_norm(self.up(x)))))


def to_onnx(module: nn.Module, path: Path) -> Path:
    axes = {name: {0: "b", 2: "h", 3: "w"} for name in (INPUT, OUTPUT)}
    torch.onnx.export(
        module.eval(), (torch.zeros(1, 3, 32, 32),), str(path), input_names=[INPUT], output_names=[OUTPUT],
        dynamic_axes=axes, opset_version=17, dynamo=False, do_constant_folding=True,
        training=torch.onnx.TrainingMode.PRESERVE,
    )  # fmt: skip
    return path


def differences(path: Path, network: GraphDetector, shapes: list[tuple[int, ...]]) -> list[float]:
    """Largest difference from onnxruntime on the same file, for each shape."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = []
    for k, shape in enumerate(shapes):
        x = np.random.default_rng(k).normal(size=shape).astype(np.float32)
        with torch.inference_mode():
            mine = network.eval()(torch.from_numpy(x)).probability.sigmoid().numpy()
        found.append(float(np.abs(mine - session.run(None, {name: x})[0]).max()))
    return found


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return to_onnx(Spread(), tmp_path_factory.mktemp("onnx") / "spread.onnx")


SHAPES = [(1, 3, 32, 64), (3, 3, 96, 32), (2, 3, 160, 192)]


@pytest.mark.filterwarnings("ignore")
def test_a_network_from_onnx_gives_what_onnxruntime_gives(spread: Path):
    network = pretrained_detector(str(spread))
    assert max(differences(spread, network, SHAPES)) < 1e-5
    ops = [node["op"] for node in network.nodes]
    assert ops.count("hardswish") == 1 and ops.count("gelu") == 1, "put together again"
    assert "batch_norm" not in ops and "affine" not in ops, "folded into the convolutions"


@pytest.mark.parametrize("name", list(PACKAGED))
def test_packaged_weights_give_what_onnxruntime_gives(name: str):
    try:
        path = weights_file(name)
    except UserError as error:
        pytest.skip(str(error))
    network = pretrained_detector(name)
    assert max(differences(path, network, [(1, 3, 64, 64), (2, 3, 160, 96), (1, 3, 320, 224)])) < 1e-4
    assert network.head[0].startswith("conv") and network.head[-1].startswith("deconv")


@pytest.mark.filterwarnings("ignore")
def test_every_part_learns_and_a_blueprint_rebuilds_the_network(spread: Path):
    network = pretrained_detector(str(spread)).train()
    maps = network(torch.randn(2, 3, 64, 64))
    assert maps.threshold is not None and maps.threshold.shape == maps.probability.shape == (2, 1, 64, 64)
    (maps.probability.mean() + maps.threshold.mean()).backward()
    for part, parameters in network.parts().items():
        assert all(p.grad is not None for p in parameters), part
        assert bool(parameters) == (part != "scalars"), part
    assert sum(map(len, network.parts().values())) == len(list(network.parameters()))
    blueprint = network.blueprint
    twin = GraphDetector(blueprint["nodes"])
    twin.load_state_dict(network.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(twin.eval()(x).probability, network.eval()(x).probability)


@pytest.mark.filterwarnings("ignore")
def test_temperature_keeps_the_even_chance_where_it_is(spread: Path):
    x = torch.randn(1, 3, 64, 64)
    plain, cooled = (pretrained_detector(str(spread), t).eval()(x).probability for t in (1.0, 5.0))
    torch.testing.assert_close(cooled * 5, plain)


@pytest.mark.filterwarnings("ignore")
def test_threshold_branch_starts_at_the_scale_of_the_trained_one(spread: Path):
    network = pretrained_detector(str(spread))
    *body, last = [n for n in network.head if n.startswith(("conv", "deconv"))]
    for name in body:
        assert torch.equal(network.layers[name].weight, network.layers[THRESHOLD + name].weight)
    rms = [network.layers[p + last].weight.square().mean().sqrt().item() for p in ("", THRESHOLD)]
    assert 0.03 < rms[1] / rms[0] < 0.3


def test_what_is_no_detector_is_refused_with_a_reason(tmp_path: Path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"not onnx")
    with pytest.raises(UserError, match=r"other\.onnx is no ONNX file"):
        read_onnx(other)
    with pytest.raises(UserError, match="not found"):
        read_onnx(tmp_path / "missing.onnx")

    def graph(op: str, **settings: object) -> Path:
        info = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 3, 8, 8]) for n in ("x", "y")]
        node = onnx.helper.make_node(op, ["x"], ["y"], **settings)
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", info[:1], info[1:])), str(other))
        return other

    with pytest.raises(UserError, match="operator Softmax is not known"):
        read_onnx(graph("Softmax"))
    with pytest.raises(UserError, match="last node is not a sigmoid"):
        read_onnx(graph("Relu"))


def test_head_is_the_chain_after_the_last_join():
    def node(name: str, op: str, *inputs: str) -> dict:
        return {"name": name, "op": op, "inputs": list(inputs)}

    nodes = [node("a", "conv", "image"), node("b", "relu", "a"), node("c", "concat", "a", "b")]
    nodes += [node("d", "conv", "c"), node("e", "relu", "d"), node("f", "deconv", "e")]
    assert head_of(nodes) == ["d", "e", "f"]
    with pytest.raises(ValueError, match="no head"):
        head_of(nodes[:3])


@pytest.mark.filterwarnings("ignore")
def test_an_exported_file_reads_back_and_runs_alike(spread: Path, pipeline: Pipeline, tmp_path: Path):
    """Out and in again: RapidOCR's normalisation in the file, the network's own in the module."""
    network = pretrained_detector(str(spread)).eval()
    target = tmp_path / "out" / "model.onnx"
    wants = export_onnx(network, pipeline, target, {"source": "spread"})
    assert (wants.mean, wants.std, wants.channels) == ((0.5,) * 3, (0.5,) * 3, "bgr")
    assert wants.fill_colour == pipeline.fill_colour, "the padding keeps its colour"
    detector = OnnxDetector(target)
    assert Pipeline.from_dict(detector.pipeline()) == wants and detector.metadata["source"] == "spread"
    image = torch.rand(2, 3, 64, 96)
    mine = (image - torch.tensor(pipeline.mean).view(1, 3, 1, 1)) / torch.tensor(pipeline.std).view(1, 3, 1, 1)
    theirs = (image.flip(1) - 0.5) / 0.5
    with torch.inference_mode():
        wanted = network(mine).probability.sigmoid()
        torch.testing.assert_close(detector(theirs).probability.sigmoid(), wanted, atol=1e-5, rtol=0)
        to_fp16(target, tmp_path / "half.onnx")
        half = OnnxDetector(tmp_path / "half.onnx")
        torch.testing.assert_close(half(theirs).probability.sigmoid(), wanted, atol=1e-2, rtol=0)
        assert half.pipeline() == detector.pipeline()
