"""A DB detector from an ONNX file: nodes for :class:`ocr.models.onnx.graph.GraphDetector`, and their weights.

Operators become nodes here, one by one; :mod:`ocr.models.onnx.fuse` then puts together what exporters spread out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ocr.errors import UserError, first_line
from ocr.models.onnx.fuse import Weights, fuse, leading_to

FLOAT32 = 1  # ONNX's number for the type
PLAIN = {"Relu": "relu", "Sigmoid": "sigmoid", "Erf": "erf", "HardSwish": "hardswish", "GlobalAveragePool": "mean"}


def read_onnx(path: str | Path) -> tuple[list[dict[str, Any]], Weights]:
    """Nodes and weights of a DB-type detector: one image in, one probability map out.

    Args:
        path: an ``.onnx`` file whose last node is a sigmoid.

    Returns:
        nodes: up to the logits, see :mod:`ocr.models.onnx.graph`.
        weights: float32 arrays by ``<node>.<parameter>``.

    Raises:
        UserError: no such file, no ONNX, not this kind of network, or an operator that is not known here.
    """
    model = _load(path)
    try:
        return _Reader(model.graph).read()
    except _Unfit as error:
        raise UserError(f"{path} cannot be read as a DB detector: {error}") from error


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of an ``.onnx`` file, by name.

    Raises:
        UserError: no such file, or no ONNX.
    """
    return {entry.key: entry.value for entry in _load(path).metadata_props}


def _load(path: str | Path) -> Any:
    import onnx

    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"model.weights: {path} not found")
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's own kinds
        raise UserError(f"{path} is no ONNX file: {first_line(error)}") from error


class _Unfit(Exception):
    """Something in the graph that is not understood."""


class _Reader:
    def __init__(self, graph: Any) -> None:
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        self.constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.alias: dict[str, str] = {}
        self.raw = []
        for node in graph.node:
            settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self.constants[node.output[0]] = numpy_helper.to_array(settings["value"])
            elif node.input and self.constants.keys() >= {name for name in node.input if name}:
                given = {name: self.constants[name] for name in node.input if name}  # half-precision weights, ...
                self.constants |= zip(node.output, map(np.asarray, ReferenceEvaluator(node).run(None, given)))
            elif node.op_type in ("Identity", "Dropout") or (node.op_type == "Cast" and settings["to"] == FLOAT32):
                self.alias[node.output[0]] = node.input[0]
            else:
                self.raw.append((node.op_type, list(node.input), node.output[0], settings))
        images = [i.name for i in graph.input if i.name not in self.constants]
        if len(images) != 1 or len(graph.output) != 1:
            raise _Unfit(f"{len(images)} inputs and {len(graph.output)} outputs instead of one each")
        self.output = graph.output[0].name
        self.names = {images[0]: "image"}  # tensor to node name
        self.nodes: list[dict[str, Any]] = []
        self.weights: Weights = {}
        self.counts: Counter[str] = Counter()

    def read(self) -> tuple[list[dict[str, Any]], Weights]:
        for op, inputs, output, settings in self.raw:
            inputs = [self._origin(name) for name in inputs]
            if op in PLAIN:
                self.names[output] = self._add_node(PLAIN[op], [self.names[inputs[0]]])
            elif (make := getattr(self, f"_{op.lower()}", None)) is not None:
                self.names[output] = make(inputs, settings)
            else:
                raise _Unfit(f"operator {op} is not known")
        self.names[self.output] = self.names[self._origin(self.output)]
        nodes = leading_to(self.nodes, self.names[self.output])
        if not nodes or nodes[-1]["op"] != "sigmoid":
            raise _Unfit("its last node is not a sigmoid, so its output is no probability map")
        return fuse(leading_to(nodes, nodes[-1]["inputs"][0]), self.weights)

    def _origin(self, name: str) -> str:
        while name in self.alias:
            name = self.alias[name]
        return name

    def _add_node(self, op: str, inputs: list[str], **settings: Any) -> str:
        name = f"{op}_{self.counts[op]}"
        self.counts[op] += 1
        self.nodes.append({"op": op, "name": name, "inputs": inputs, **settings})
        return name

    def _constant(self, name: str) -> np.ndarray:
        name = self._origin(name)
        if name not in self.constants:
            raise _Unfit(f"{name} is computed where a constant is expected")
        return self.constants[name]

    def _conv(self, inputs: list[str], settings: dict[str, Any]) -> str:
        weight = self._constant(inputs[1])
        stride = list(settings.get("strides", [1, 1]))
        source, padding = self._padded(self.names[inputs[0]], weight.shape[2:], stride, settings, 0.0)
        name = self._add_node(
            "conv", [source], in_channels=weight.shape[1] * settings.get("group", 1), out_channels=weight.shape[0],
            kernel_size=list(weight.shape[2:]), stride=stride, padding=padding,
            dilation=list(settings.get("dilations", [1, 1])), groups=settings.get("group", 1), bias=len(inputs) > 2,
        )  # fmt: skip
        return self._with_weights(name, inputs)

    def _convtranspose(self, inputs: list[str], settings: dict[str, Any]) -> str:
        weight = self._constant(inputs[1])
        pads = list(settings.get("pads", [0] * 4))
        if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or pads[:2] != pads[2:] or "output_shape" in settings:
            raise _Unfit("ConvTranspose with padding of another kind than explicit and symmetric")
        name = self._add_node(
            "deconv", [self.names[inputs[0]]], in_channels=weight.shape[0],
            out_channels=weight.shape[1] * settings.get("group", 1), kernel_size=list(weight.shape[2:]),
            stride=list(settings.get("strides", [1, 1])), padding=pads[:2],
            output_padding=list(settings.get("output_padding", [0, 0])), groups=settings.get("group", 1),
            dilation=list(settings.get("dilations", [1, 1])), bias=len(inputs) > 2,
        )  # fmt: skip
        return self._with_weights(name, inputs)

    def _with_weights(self, node: str, inputs: list[str]) -> str:
        for key, constant in zip(("weight", "bias"), inputs[1:]):
            self.weights[f"{node}.{key}"] = self._constant(constant)
        return node

    def _padded(
        self, source: str, kernel: Any, stride: list[int], settings: dict[str, Any], value: float
    ) -> tuple[str, list[int]]:
        """The input, padded by a node of its own where the two sides differ; and the op's own padding."""
        how = settings.get("auto_pad", b"NOTSET")
        if how in (b"SAME_UPPER", b"SAME_LOWER"):
            if stride != [1, 1]:
                raise _Unfit(f"auto_pad {how.decode()} with stride {stride} depends on the image's size")
            less, more = [(k - 1) // 2 for k in kernel], [k // 2 for k in kernel]
            pads = less + more if how == b"SAME_UPPER" else more + less
        else:
            pads = list(settings.get("pads", [0] * 4))
        if pads[:2] == pads[2:]:
            return source, pads[:2]
        top, left, bottom, right = pads
        return self._add_node("pad", [source], pads=[left, right, top, bottom], value=value), [0, 0]

    def _pad(self, inputs: list[str], settings: dict[str, Any]) -> str:
        sides = self._constant(inputs[1]).tolist()
        value = float(self._constant(inputs[2])) if len(inputs) > 2 and inputs[2] else 0.0
        if settings.get("mode", b"constant") != b"constant" or len(sides) != 8 or any(sides[:2] + sides[4:6]):
            raise _Unfit("Pad of another kind than constant, around height and width")
        top, left, bottom, right = sides[2:4] + sides[6:]
        return self._add_node("pad", [self.names[inputs[0]]], pads=[left, right, top, bottom], value=value)

    def _batchnormalization(self, inputs: list[str], settings: dict[str, Any]) -> str:
        scale, shift, mean, variance = (self._constant(name).astype(np.float64) for name in inputs[1:5])
        factor = scale / np.sqrt(variance + settings.get("epsilon", 1e-5))
        return self._affine(inputs[0], scale=factor, shift=shift - mean * factor)

    def _affine(self, source: str, **constants: np.ndarray) -> str:
        """A node that multiplies by ``scale`` and adds ``shift``, where they are given."""
        for value in constants.values():
            if value.size not in (1, max(value.shape, default=1)):
                raise _Unfit(f"a constant of shape {value.shape} is neither one number nor one per channel")
        sizes = {key: constants[key].size if key in constants else 0 for key in ("scale", "shift")}
        name = self._add_node("affine", [self.names[source]], **sizes)
        for key, value in constants.items():
            self.weights[f"{name}.{key}"] = np.asarray(value, np.float32).reshape(-1, 1, 1)
        return name

    def _affine_or(self, op: str, key: str, inputs: list[str]) -> str:
        """An affine node where one of two inputs is constant; else a node of both."""
        for source, constant in (inputs, inputs[::-1]):
            if constant in self.constants:
                return self._affine(source, **{key: self.constants[constant]})
        return self._add_node(op, [self.names[name] for name in inputs])

    def _add(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._affine_or("add", "shift", inputs)

    def _mul(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._affine_or("mul", "scale", inputs)

    def _div(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._affine(inputs[0], scale=1 / self._constant(inputs[1]).astype(np.float64))

    def _sub(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._affine(inputs[0], shift=-self._constant(inputs[1]))

    def _gelu(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._add_node(
            "gelu", [self.names[inputs[0]]], approximate=settings.get("approximate", b"none").decode()
        )

    def _leakyrelu(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._add_node("leaky_relu", [self.names[inputs[0]]], negative_slope=settings.get("alpha", 0.01))

    def _hardsigmoid(self, inputs: list[str], settings: dict[str, Any]) -> str:
        alpha, beta = settings.get("alpha", 0.2), settings.get("beta", 0.5)
        return self._add_node("hardsigmoid", [self.names[inputs[0]]], alpha=alpha, beta=beta)

    def _clip(self, inputs: list[str], settings: dict[str, Any]) -> str:
        low, high = settings.get("min"), settings.get("max")
        if len(inputs) > 1 and inputs[1]:
            low = float(self._constant(inputs[1]))
        if len(inputs) > 2 and inputs[2]:
            high = float(self._constant(inputs[2]))
        return self._add_node("clip", [self.names[inputs[0]]], low=low, high=high)

    def _reducemean(self, inputs: list[str], settings: dict[str, Any]) -> str:
        axes = settings.get("axes") if len(inputs) < 2 else self._constant(inputs[1]).tolist()
        if axes is None or sorted(a % 4 for a in axes) != [2, 3] or not settings.get("keepdims", 1):
            raise _Unfit(f"ReduceMean over {axes}; known is the mean over height and width, kept as 1 x 1")
        return self._add_node("mean", [self.names[inputs[0]]])

    def _pool(self, op: str, inputs: list[str], settings: dict[str, Any], value: float) -> str:
        if settings.get("ceil_mode") or set(settings.get("dilations", [1])) != {1}:
            raise _Unfit("pooling with ceil_mode or dilation")
        stride = list(settings.get("strides", [1, 1]))
        kernel = list(settings["kernel_shape"])
        source, padding = self._padded(self.names[inputs[0]], kernel, stride, settings, value)
        return self._add_node(op, [source], kernel_size=kernel, stride=stride, padding=padding)

    def _maxpool(self, inputs: list[str], settings: dict[str, Any]) -> str:
        return self._pool("max_pool", inputs, settings, float("-inf"))

    def _averagepool(self, inputs: list[str], settings: dict[str, Any]) -> str:
        if any(settings.get("pads", [])):
            raise _Unfit("padded average pooling")
        return self._pool("avg_pool", inputs, settings, 0.0)

    def _concat(self, inputs: list[str], settings: dict[str, Any]) -> str:
        if settings["axis"] not in (1, -3):
            raise _Unfit(f"Concat over axis {settings['axis']}; known are channels")
        return self._add_node("concat", [self.names[name] for name in inputs])

    def _resize(self, inputs: list[str], settings: dict[str, Any]) -> str:
        scales = self._constant(inputs[2] if len(inputs) > 2 else inputs[1]).tolist()
        mode = settings.get("mode", b"nearest").decode()
        how = settings.get("coordinate_transformation_mode", b"half_pixel").decode()
        rounding = settings.get("nearest_mode", b"round_prefer_floor").decode()
        whole = len(scales) == 4 and scales[:2] == [1, 1] and scales[2] == scales[3] and scales[2] == int(scales[2])
        nearest = mode == "nearest" and (how, rounding) in (
            ("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"),
        )  # fmt: skip
        linear = mode == "linear" and how in ("half_pixel", "pytorch_half_pixel")
        if not whole or not (nearest or linear):
            raise _Unfit(f"Resize by {scales} with {mode}, {how}, {rounding}; known are whole factors")
        return self._add_node(
            "upsample", [self.names[inputs[0]]], scale=int(scales[2]), mode="nearest" if nearest else "bilinear"
        )

    _upsample = _resize
