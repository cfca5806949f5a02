"""Nothing runs that the user did not name, and what is wrong with a file is one line."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ocr.errors import UserError
from ocr.jobs.command_line.resume import config_targets
from ocr.models.detector import Maps
from ocr.training.loading import DetectorOverrides, load_module
from ocr.training.module import DetectionModule
from ocr.training.trust import network_classes
from tests.composing import settings
from tests.hostile import hostile_checkpoints, untouched
from tests.tiny import OFF, network_config, run

NETWORK = network_config()


class OneLayer(nn.Module):
    """A network from outside the project."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)

    def forward(self, x: torch.Tensor) -> Maps:
        return Maps(self.layer(x), None)


@pytest.fixture
def sound(pipeline) -> dict[str, Any]:
    """Content of a checkpoint."""
    module = DetectionModule(copy.deepcopy(NETWORK), pipeline.to_dict())
    return {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}


def message(path: Path, **overrides: Any) -> str:
    with pytest.raises(UserError) as error:
        load_module(path, DetectorOverrides(**overrides))
    assert "\n" not in str(error.value) and path.name in str(error.value)
    return str(error.value)


def test_only_classes_that_are_defined_in_the_networks_modules_may_be_named():
    assert {
        "ocr.models.detector.DBDetector",
        "ocr.models.onnx.graph.GraphDetector",
        "ocr.models.backbones.timm.TimmBackbone",
    } <= network_classes()
    assert not [name for name in network_classes() if not name.startswith("ocr.models.")]
    assert "ocr.models.onnx.graph.Maps" not in network_classes(), "imported there, defined elsewhere"
    assert "ocr.models.onnx.runtime.OnnxDetector" not in network_classes(), "it would read any file"
    assert {"lightning.Trainer", "ocr.data.datamodule.DetectionData"} <= config_targets()


def test_checkpoints_that_would_run_code_are_refused_and_nothing_is_touched(sound, tmp_path: Path):
    paths = hostile_checkpoints(sound, tmp_path / "box")
    for name, path in paths.items():
        said = message(path)
        assert untouched(tmp_path / "box"), name
        if name not in ("pickle", "list") and "${" not in said:
            assert "trusted_targets=" in said, name


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["predict", "test", "tune", "export"])
def test_every_runner_refuses_in_one_line(runner: str, sound, tmp_path: Path):
    paths = hostile_checkpoints(sound, tmp_path / "box")
    more = {"predict": [f"source={tmp_path}", "output=out"], "export": ["output=a.onnx"]}.get(runner, ["trainer=cpu"])
    for name in ("hub", "trusting_itself")[: 2 if runner == "test" else 1]:
        done = run(runner, f"ckpt_path={paths[name]}", OFF, *more, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "ocr.training.trainer.torch.hub.load" in line and f"{name}.ckpt" in line
        assert untouched(tmp_path / "box")


def test_a_class_from_outside_is_loaded_when_this_command_trusts_it(pipeline, tmp_path: Path):
    target = f"{__name__}.OneLayer"
    module = DetectionModule({"_target_": target}, pipeline.to_dict())
    path = tmp_path / "own.ckpt"
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    assert f"trusted_targets=[{target}]" in message(path)
    assert type(load_module(path, DetectorOverrides(trusted_targets=[target])).network).__name__ == "OneLayer"


def test_a_backbone_from_a_checkpoint_neither_downloads_nor_reads_weights(sound, tmp_path: Path):
    stored = sound["hyper_parameters"]["network"]["backbone"]
    stored |= {"pretrained": True, "kwargs": {"checkpoint_path": str(tmp_path / "not there.pth")}}
    torch.save(sound, tmp_path / "a.ckpt")
    loaded = load_module(tmp_path / "a.ckpt")
    assert not loaded.network.backbone.pretrained
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in sound["state_dict"].items())
    for name in ("local-dir:/tmp", "hf-hub:someone/model", 3):
        stored |= {"name": name, "kwargs": {}}
        torch.save(sound, tmp_path / "b.ckpt")
        message(tmp_path / "b.ckpt")


def _flip(path: Path) -> None:
    """Change one byte of the largest record."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(
    "fault, words",
    [
        ("flipped", "checksum"),
        ("cut", "damaged or cut off"),
        ("packed", "none that torch has written"),
        ("nan", "1 of 276 weights are not finite (network.neck.lateral.0.weight)"),
        ("shape", "1 of another shape (network.neck.lateral.0.weight is 2x3 instead of 16x"),
        ("missing", "1 missing (network.neck.lateral.0.weight)"),
        ("unknown", "1 unknown (network.new)"),
        ("huge", "of another shape"),
        ("no weights", "no weights"),
        ("no pipeline", "no network and pipeline"),
        ("pipeline", "network or pipeline is wrong"),
        ("threshold", "thresh must lie in 0..1"),
        ("network", "network or pipeline is wrong"),
        ("itself", "nested more than"),
    ],
)
def test_a_wrong_checkpoint_says_what_is_wrong_with_it(fault: str, words: str, sound, tmp_path: Path):
    path, name = tmp_path / "a.ckpt", "network.neck.lateral.0.weight"
    parameters, state = sound["hyper_parameters"], sound["state_dict"]
    if fault == "nan":
        state[name].view(-1)[3] = float("nan")
    elif fault == "shape":
        state[name] = torch.zeros(2, 3)
    elif fault == "missing":
        del state[name]
    elif fault == "unknown":
        state["network.new"] = torch.zeros(1)
    elif fault == "huge":
        parameters["network"]["neck"]["channels"] = 2**20  # of its own 10 TB of weights
    elif fault == "no weights":
        sound["state_dict"] = {"a": 1}
    elif fault == "no pipeline":
        del parameters["pipeline"]
    elif fault == "pipeline":
        parameters["pipeline"] = {"resize": 3}
    elif fault == "threshold":
        parameters["pipeline"]["postprocess"]["thresh"] = "low"
    elif fault == "network":
        parameters["network"]["neck"]["channels"] = "many"
    elif fault == "itself":
        parameters["network"]["backbone"]["kwargs"]["again"] = parameters["network"]
    torch.save(sound, path)
    if fault == "flipped":
        _flip(path)
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    elif fault == "packed":
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.ckpt", "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(entry.filename, old.read(entry))
        (tmp_path / "b.ckpt").replace(path)
    assert words in message(path)


GRAPH = [{"op": "conv", "name": "a", "inputs": ["image"], "in_channels": 3, "out_channels": 4, "kernel_size": 3,
          "padding": 1}, {"op": "conv", "name": "b", "inputs": ["a"], "in_channels": 4, "out_channels": 1,
          "kernel_size": 1}]  # fmt: skip


@pytest.mark.parametrize(
    "change, words",
    [
        ({}, None),
        ({"stride": 2}, "it makes (1, 1, 32, 32) of an image of 64 x 64"),
        ({"kernel_size": 3, "padding": 200, "dilation": 300}, "no image can be put through it"),
        ({"device": "nowhere"}, "network or pipeline is wrong"),
        ({"dtype": "float8"}, "network or pipeline is wrong"),
        ({"op": "os.system"}, "unknown op 'os.system'"),
        ({"inputs": ["later"]}, "unknown inputs ['later']"),
        ({"name": "a.b"}, "network or pipeline is wrong"),
    ],
)
def test_a_checkpoint_of_nodes_must_make_one_map(change: dict[str, Any], words: str | None, pipeline, tmp_path: Path):
    module = DetectionModule({"_target_": "ocr.models.onnx.graph.GraphDetector", "nodes": GRAPH}, pipeline.to_dict())
    content = {"state_dict": module.state_dict(), "hyper_parameters": copy.deepcopy(dict(module.hparams))}
    content["hyper_parameters"]["network"]["nodes"][1 if "stride" in change else 0] |= change
    if "kernel_size" in change:
        content["hyper_parameters"]["network"]["nodes"][0]["kernel_size"] = 3
    path = tmp_path / "graph.ckpt"
    torch.save(content, path)
    if words is None:
        load_module(path)
    else:
        assert words in message(path)


def _onnx(path: Path, channels: int = 3, maps: int = 1, end: str = "Sigmoid", value: float = 0.1) -> Path:
    """A file of one convolution and a last operator."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.full((maps, channels, 1, 1), value, np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[1, 1])]
    shape: list[Any] = ["n", maps, "h", "w"]
    if end == "classifier":
        nodes += [helper.make_node("GlobalAveragePool", ["y"], ["p"]), helper.make_node("Flatten", ["p"], ["z"])]
        shape = ["n", maps]
    else:
        nodes.append(helper.make_node(end, ["y"], ["z"]))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w"])
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [image], [output], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"end": "classifier", "maps": 10}, "its output has the shape (1, 10) instead of (1, 1, 64, 64)"),
        ({"maps": 3}, "its output has the shape (1, 3, 64, 64)"),
        ({"channels": 1}, "instead of float images (batch, 3, height, width)"),
        ({"value": float("nan")}, "not finite"),
        ({"end": "Exp"}, "reaches from 1.35 to 1.35, which are no probabilities"),
        ({"end": "Neg"}, "no probabilities"),
        ({}, None),
    ],
)
def test_an_onnx_file_that_is_no_detector_says_so_at_load(settings, words: str | None, pipeline, tmp_path: Path):
    path = _onnx(tmp_path / "wrong.onnx", **settings)
    if words is None:
        load_module(path, DetectorOverrides(fallback_pipeline=pipeline.to_dict()))
    else:
        with pytest.raises(UserError) as error:
            load_module(path, DetectorOverrides(fallback_pipeline=pipeline.to_dict()))
        assert words in str(error.value) and "wrong.onnx" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings", [{"end": "classifier", "maps": 10}, {"maps": 3}, {"channels": 1}, {"value": float("nan")}]
)
def test_a_wrong_onnx_file_is_not_trained_from(settings, tmp_path: Path):
    from ocr.models.pretrained.ppocr import pretrained_detector

    path = _onnx(tmp_path / "wrong.onnx", **settings)
    with pytest.raises(UserError, match=r"wrong\.onnx") as error:
        pretrained_detector(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "callback",
    [
        "+callbacks.x=3",
        "+callbacks.x={a: 1}",
        "+callbacks.x._target_=torch.nn.ReLU",
        "+callbacks.x._target_=builtins.dict",
        "+callbacks.x={_target_: ocr.training.callbacks.finite_weights.FiniteWeights, every: 3, _partial_: true}",
        "+callbacks.x={_target_: ocr.training.callbacks.ema.warmed_up_ema, decay: 0.1}",
    ],
)
def test_a_callback_that_is_none_is_one_line(callback: str, tmp_path: Path):
    from ocr.jobs.build import build_callbacks

    with pytest.raises(UserError, match=r"callbacks\.x") as error:
        build_callbacks({"x": settings(callback).callbacks["x"]})
    assert "callback" in str(error.value) and "\n" not in str(error.value)
