"""PP-OCR's text detectors, and any other DB detector in an ONNX file, as trainable networks.

The weights come from the ONNX files in PyPI packages (extra ``[ppocr]``): PP-OCR is by the PaddlePaddle authors, the
conversion by RapidOCR, both Apache-2.0; see NOTICE.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ocr.errors import UserError, load_error
from ocr.models.graph import GraphDetector
from ocr.models.onnx_nodes import read_metadata, read_onnx
from ocr.models.onnx_run import PIPELINE_KEY


class Packaged(NamedTuple):
    package: str
    file: str
    requirement: str


PACKAGED = {
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
    """A detector with the weights of a file, its threshold branch made anew unless the file has one.

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
    try:
        network = GraphDetector(nodes)
    except ValueError as error:
        raise UserError(f"{path} cannot be read as a DB detector: {error}") from error
    state = {f"layers.{key}": torch.tensor(value) for key, value in arrays.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(key.startswith("layers.threshold_") for key in missing), (missing, unexpected)
    network.scale_logits(1 / temperature)
    network.start_threshold_branch()
    return network


def carried_pipeline(weights: str) -> dict[str, Any] | None:
    """The pipeline that a file of weights carries, as plain types; None where it carries none."""
    path = weights_file(weights)
    if path.suffix == ".ckpt":
        return _read_checkpoint(path)["hyper_parameters"]["pipeline"]
    text = read_metadata(path).get(PIPELINE_KEY)
    return json.loads(text) if text else None


def _from_checkpoint(path: Path) -> GraphDetector:
    checkpoint = _read_checkpoint(path)
    network = GraphDetector(checkpoint["hyper_parameters"]["network"]["nodes"])
    prefix = "network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if prefix in k})
    return network


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["hyper_parameters"]["network"]["nodes"]
    except Exception as error:  # torch raises many kinds for what is not a checkpoint
        raise UserError(
            f"model.weights={path} is no checkpoint of a network that came from ONNX ({load_error(error)})"
        ) from error
    return checkpoint
