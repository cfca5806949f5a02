"""An ONNX file as it is, run by onnxruntime: for testing what was exported, and what others made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ocr.errors import UserError, first_line
from ocr.models.checkpoint_file import PROBE_SIDE
from ocr.models.detector import Maps

PIPELINE_KEY = "pipeline"  # of the file's metadata: JSON of Pipeline.to_dict


def stored_pipeline(metadata: Mapping[str, str], path: str | Path) -> dict[str, Any] | None:
    """The pipeline in a file's metadata, as plain types; None in files of others.

    Raises:
        UserError: it is not JSON, or no settings.
    """
    if not (text := metadata.get(PIPELINE_KEY)):
        return None
    try:
        pipeline = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: the pipeline in its metadata is not JSON: {error}") from error
    if not isinstance(pipeline, dict):
        raise UserError(f"{path}: the pipeline in its metadata is a {type(pipeline).__name__} instead of settings")
    return pipeline


class OnnxDetector(nn.Module):
    """A DB-type ONNX file behind the same interface as the networks of this project; it cannot be trained.

    Args:
        path: one image batch in, one probability map out.
        threads: of onnxruntime; 0 for its own choice.

    Attributes:
        metadata: the file's own, text by name.

    Raises:
        UserError: onnxruntime cannot read the file, or finds no detector in it: it is run once, on a grey
            image.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # threads that wait by spinning take the cores from what torch and OpenCV do between two images
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # as prepare_process does for torch
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own kinds
            raise UserError(f"onnxruntime cannot read {path}: {first_line(error)}") from error
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise UserError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs instead of one each")
        self._path = path
        self._input, self._type = inputs[0].name, np.float16 if "float16" in inputs[0].type else np.float32
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        if fault := self._fault(list(inputs[0].shape), inputs[0].type):
            raise UserError(f"{path} is no DB-type text detector: {fault}")

    def _fault(self, shape: list[int | str | None], kind: str) -> str | None:
        """Fault of the input, or of the output for a grey image; None for a sound detector."""
        known = [side if isinstance(side, int) and side > 0 else None for side in shape]
        if kind not in ("tensor(float)", "tensor(float16)") or len(known) != 4 or known[1] not in (3, None):
            return f"its input is {kind} of shape {shape} instead of float images (batch, 3, height, width)"
        batch, height, width = known[0] or 1, known[2] or PROBE_SIDE, known[3] or PROBE_SIDE
        try:
            [output] = self.session.run(None, {self._input: np.ones((batch, 3, height, width), self._type)})
        except Exception as error:  # onnxruntime's own kinds
            return f"an image of 3 x {height} x {width} cannot be put through it ({first_line(error)})"
        expected = (batch, 1, height, width)
        if getattr(output, "shape", None) != expected:
            return f"its output has the shape {getattr(output, 'shape', None)} instead of {expected}, one map per image"
        if not np.isfinite(output).all():
            return "its output is not finite even for a grey image: the weights are damaged or had diverged"
        if output.min() < 0 or output.max() > 1:
            return f"its output reaches from {output.min():.3g} to {output.max():.3g}, which are no probabilities"
        return None

    def pipeline(self) -> dict[str, Any] | None:
        """The pipeline stored in the file, as plain types; None in files of others."""
        return stored_pipeline(self.metadata, self._path)

    def probabilities(self, x: torch.Tensor) -> torch.Tensor:
        """Float (B, 3, H, W) to float32 (B, 1, H, W) in 0..1, as the file gives them."""
        array = np.ascontiguousarray(x.cpu().numpy(), self._type)
        [probability] = self.session.run(None, {self._input: array})
        return torch.from_numpy(probability).to(x.device, torch.float32)

    def forward(self, x: torch.Tensor) -> Maps:
        """Float (B, 3, H, W) to logits (B, 1, H, W)."""
        return Maps(torch.logit(self.probabilities(x).double(), eps=1e-12).float(), None)
