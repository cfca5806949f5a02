"""A detector as an ONNX file: probability map out, pipeline in the metadata, quantised on request."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from ocr.models.onnx.runtime import PIPELINE_KEY
from ocr.pipeline import Pipeline
from ocr.utils.files import write_atomic

OPSET = 17
INPUT, OUTPUT = "x", "probability"
# What RapidOCR and PaddleOCR's own ONNX tools feed to a detector unless told otherwise
RAPIDOCR: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "channels": "bgr"}


class _Exported(nn.Module):
    """Network input in another normalisation and channel order, to probabilities."""

    def __init__(self, network: nn.Module, has: Pipeline, wants: Pipeline) -> None:
        super().__init__()
        self.network, self.adapt = network, nn.Conv2d(3, 3, 1)  # which every reader of ONNX knows
        mean, std = (torch.tensor(getattr(has, name)) for name in ("mean", "std"))
        to_mean, to_std = (torch.tensor(getattr(wants, name)) for name in ("mean", "std"))
        order = torch.tensor([2, 1, 0]) if has.channels != wants.channels else torch.arange(3)
        self.adapt.weight.data = (torch.eye(3)[order] * (std[order] / to_std)[:, None])[:, :, None, None]
        self.adapt.bias = nn.Parameter((mean[order] - to_mean) / to_std)
        self.same = has.mean == wants.mean and has.std == wants.std and has.channels == wants.channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x if self.same else self.adapt(x)).probability.sigmoid()


def export_onnx(network: nn.Module, pipeline: Pipeline, path: Path, metadata: Mapping[str, str]) -> Pipeline:
    """Write a float32 file with dynamic batch, height and width.

    Args:
        network: in evaluation mode, on the CPU.
        pipeline: the network's own.
        path: of the file; its folder is made.
        metadata: more entries beside the pipeline.

    Returns:
        The pipeline that goes with the file's input: RapidOCR's normalisation, all else as it was.
    """
    wants = replace(pipeline, **RAPIDOCR, fill=pipeline.fill_colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    side = 2 * pipeline.resize.multiple
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in (INPUT, OUTPUT)}
    with warnings.catch_warnings():
        # the newer exporter needs onnxscript and gives the same graph; this one is there as long as torch has it
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Exported(network, wants, pipeline).eval(), (torch.zeros(1, 3, side, side),), str(path),
            input_names=[INPUT], output_names=[OUTPUT], dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(path))
    _write(model, path, {**metadata, PIPELINE_KEY: json.dumps(wants.to_dict())})
    return wants


def to_fp16_weights(source: Path, target: Path) -> None:
    """Weights stored in half precision, arithmetic in float32: half the size, and as fast as before.

    Runtimes turn the weights back into float32 when they read the file.
    """
    model = onnx.load(str(source))
    graph, casts = model.graph, []
    for item in graph.initializer:
        if item.data_type == TensorProto.FLOAT:
            name, half = item.name, f"{item.name}_fp16"
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), half))
            casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    write_atomic(target, model.SerializeToString())


def to_fp16(source: Path, target: Path) -> None:
    """Weights and arithmetic in half precision; input and output stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(source))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every small number that is cut to zero
        half = convert_float_to_float16(model, keep_io_types=True, op_block_list=["Resize"])
    write_atomic(target, half.SerializeToString())


def to_int8(source: Path, target: Path, inputs: Sequence[np.ndarray]) -> None:
    """Convolutions in 8 bits but for the first and the last, with ranges from network inputs, float32 (1, 3, H, W)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        left = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {INPUT: batch}

    kept = {item.key: item.value for item in onnx.load(str(source)).metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        prepared, raw = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(str(prepared)).graph.node  # in order of execution
        names = [node.name for node in nodes if node.op_type in ("Conv", "ConvTranspose")]
        quantize_static(
            str(prepared), str(raw), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=["Conv"], nodes_to_exclude=[names[0], names[-1]],
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        _write(onnx.load(str(raw)), target, kept)


def _write(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    helper.set_model_props(model, dict(metadata))
    write_atomic(path, model.SerializeToString())
