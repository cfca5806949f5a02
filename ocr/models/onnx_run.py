"""An ONNX file as it is, run by onnxruntime: for testing what was exported, and what others made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ocr.errors import UserError, first_line
from ocr.models.maps import Maps

PIPELINE_KEY = "pipeline"  # of the file's metadata: JSON of Pipeline.to_dict


class OnnxDetector(nn.Module):
    """A DB-type ONNX file behind the same interface as the networks of this project; it cannot be trained.

    Args:
        path: one image batch in, one probability map out.
        threads: of onnxruntime; 0 for its own choice.

    Attributes:
        metadata: the file's own, text by name.

    Raises:
        UserError: onnxruntime is missing or cannot read the file.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("running ONNX files needs onnxruntime: pip install -e '.[onnx]'") from error
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
        self._input, self._type = inputs[0].name, np.float16 if "float16" in inputs[0].type else np.float32
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)

    def pipeline(self) -> dict[str, Any] | None:
        """The pipeline that the file carries, as plain types; None in files of others."""
        text = self.metadata.get(PIPELINE_KEY)
        return json.loads(text) if text else None

    def probabilities(self, x: torch.Tensor) -> torch.Tensor:
        """float (B, 3, H, W) to float32 (B, 1, H, W) in 0..1, as the file gives them."""
        array = np.ascontiguousarray(x.cpu().numpy(), self._type)
        [probability] = self.session.run(None, {self._input: array})
        return torch.from_numpy(probability).to(x.device, torch.float32)

    def forward(self, x: torch.Tensor) -> Maps:
        """float (B, 3, H, W) to logits (B, 1, H, W)."""
        return Maps(torch.logit(self.probabilities(x).double(), eps=1e-12).float(), None)
