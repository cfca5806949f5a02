"""Detectors in ONNX files that come with packages, and any other DB detector in such a file, as trainable networks.

``receipts`` and ``receipts-small`` come with this project, see ``ocr/weights/README.md``. PP-OCR's lie in PyPI packages
(extra ``[ppocr]``): it is by the PaddlePaddle authors, the conversion by RapidOCR, both Apache-2.0; see NOTICE.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ocr.errors import UserError, first_line
from ocr.models.checkpoint_file import check_finite, check_fit, check_map, read_checkpoint
from ocr.models.onnx.graph import GraphDetector
from ocr.models.onnx.nodes import read_metadata, read_onnx
from ocr.models.onnx.runtime import stored_pipeline


class Packaged(NamedTuple):
    """A file of weights inside a PyPI package."""

    package: str
    file: str
    requirement: str


PACKAGED = {
    "receipts": Packaged("ocr", "weights/receipts.onnx", "receipt-text-detection"),
    "receipts-small": Packaged("ocr", "weights/receipts-small.onnx", "receipt-text-detection"),
    "ppocr_v4": Packaged("rapidocr_onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx", "rapidocr-onnxruntime==1.4.4"),
    "ppocr_v6": Packaged("rapidocr", "models/PP-OCRv6_det_small.onnx", "rapidocr==3.10.0"),
}


def weights_file(name: str) -> Path:
    """The ONNX file of a name in :data:`PACKAGED`, or the path that the name is.

    Raises:
        UserError: the package is not installed, or has no such file.
    """
    if name not in PACKAGED:
        return Path(name).expanduser()
    packaged = PACKAGED[name]
    spec = importlib.util.find_spec(packaged.package)  # nothing of it is imported
    path = Path(spec.origin).parent / packaged.file if spec and spec.origin else None
    if path is None or not path.is_file():
        what = "is not installed" if path is None else f"has no {packaged.file}"
        raise UserError(
            f"the weights of {name} lie in the package {packaged.package}, which {what}: make setup EXTRAS=ppocr, or "
            f"pip install --no-deps {packaged.requirement}; any DB-type ONNX file will do, too (model.weights=<file>)"
        )
    return path


def pretrained_detector(weights: str, temperature: float = 1.0) -> GraphDetector:
    """A detector with the weights of a file, with a new threshold branch unless the file has one.

    Args:
        weights: a name in :data:`PACKAGED`, a DB-type ``.onnx`` file, or a ``.ckpt`` of a network that came from one.
        temperature: the logits of an ``.onnx`` file are divided by it, in the last layer's weights. Where the
            probability is 0.5 it stays so. PP-OCRv4 gives logits of -40 and +60, on which the cross-entropy of a few
            wrong labels outweighs all else.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    path = weights_file(weights)
    if path.suffix == ".ckpt":
        return _from_checkpoint(path)
    nodes, arrays = read_onnx(path)
    state = {f"layers.{key}": torch.tensor(value) for key, value in arrays.items()}
    check_finite(state, path)
    try:
        network = GraphDetector(nodes)
        missing, unexpected = network.load_state_dict(state, strict=False)
        assert not unexpected, unexpected
        assert all(key.startswith("layers.threshold_") for key in missing), missing
        network.scale_logits(1 / temperature)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} cannot be read as a DB detector: {first_line(error)}") from error
    check_map(network, path)
    network.start_threshold_branch()
    return network


def pipeline_of_weights(weights: str) -> dict[str, Any] | None:
    """The pipeline stored in a file of weights, as plain types; None where there is none."""
    path = weights_file(weights)
    if path.suffix == ".ckpt":
        return _read_checkpoint(path)["hyper_parameters"]["pipeline"]
    return stored_pipeline(read_metadata(path), path)


def _from_checkpoint(path: Path) -> GraphDetector:
    checkpoint = _read_checkpoint(path)
    prefix = "network."
    state = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    nodes = checkpoint["hyper_parameters"]["network"]["nodes"]
    try:
        with torch.device("meta"):
            check_fit(GraphDetector(nodes), state, path)  # before memory is taken
        network = GraphDetector(nodes)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise UserError(f"model.weights={path} describes no network ({first_line(error)})") from error
    network.load_state_dict(state)
    check_map(network, path)
    return network


def _read_checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"model.weights={path} not found")
    checkpoint = read_checkpoint(path)
    network = checkpoint["hyper_parameters"]["network"]
    if not isinstance(network, Mapping) or "nodes" not in network:
        raise UserError(f"model.weights={path} is no checkpoint of a network that came from ONNX")
    return checkpoint
