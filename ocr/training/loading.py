"""Load a detector from a checkpoint or an ONNX file."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ocr.errors import UserError, first_line, user_error
from ocr.migrations import stored_tta
from ocr.models.checkpoint_file import check_fit, check_map, read_checkpoint
from ocr.models.onnx.graph import GraphDetector
from ocr.models.onnx.runtime import OnnxDetector
from ocr.models.tta import TestTimeAugmentation
from ocr.training.module import DetectionModule
from ocr.training.trust import stored_network
from ocr.utils.config import instantiate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorOverrides:
    """Changes of a job to a stored detector.

    Attributes:
        resize, postprocess: settings of the stored pipeline by name, see :class:`ocr.pipeline.Pipeline`; None keeps.
        tta: settings of :class:`ocr.models.tta.TestTimeAugmentation`; None keeps.
        fallback_pipeline: of an ONNX file that has no pipeline stored.
        trusted_targets: classes that a checkpoint may build beside :func:`ocr.training.trust.network_classes`.
    """

    resize: Mapping[str, Any] = field(default_factory=dict)
    postprocess: Mapping[str, Any] = field(default_factory=dict)
    tta: Mapping[str, Any] = field(default_factory=dict)
    fallback_pipeline: Mapping[str, Any] | None = None
    trusted_targets: Sequence[str] = ()


def load_module(path: str | Path, overrides: DetectorOverrides = DetectorOverrides()) -> DetectionModule:
    """The detector of a checkpoint or of an ONNX file; it needs nothing else.

    Args:
        path: a ``.ckpt`` that :mod:`runners.train` wrote, a run folder, of which the best one is taken, or an
            ``.onnx`` file, which onnxruntime runs.
        overrides: what is to change.

    Raises:
        UserError: no such file, one that holds no detector, one that is damaged, or one that would run other code.
    """
    path = checkpoint_path(path)
    tta: Mapping[str, Any] = {}
    state: Mapping[str, torch.Tensor] | None = None
    if path.suffix == ".onnx":
        network, pipeline = _read_onnx_file(path, overrides.fallback_pipeline)
    else:
        network, pipeline, state, tta = _read_checkpoint(path, overrides.trusted_targets)
    try:
        for part in ("resize", "postprocess"):
            given = {k: v for k, v in getattr(overrides, part).items() if v is not None}
            pipeline = {**pipeline, part: {**pipeline[part], **given}}
        module = DetectionModule(network, pipeline)
        module.tta = TestTimeAugmentation.from_settings(tta, overrides.tta)
    except Exception as error:  # settings in a file may be wrong in as many ways as there are constructors
        raise UserError(f"{path}: {_reason(error)}") from error
    if state is not None:
        check_fit(module, state, path)
        module.load_state_dict(state)
    if isinstance(module.network, GraphDetector):
        check_map(module.network, path)
    return module.eval()


def has_own_pipeline(path: Path) -> bool:
    """Whether a detector's file says how images are resized and its maps are read."""
    return path.suffix != ".onnx" or OnnxDetector(path).pipeline() is not None


def _reason(error: Exception) -> str:
    """An exception of a constructor in words that a user can act on."""
    if (fault := user_error(error)) is not None:
        return str(fault)
    while error.__cause__ is not None:
        error = error.__cause__  # type: ignore[assignment]
    return f"what it says of its network or pipeline is wrong ({type(error).__name__}: {first_line(error)})"


def _read_onnx_file(path: Path, fallback: Mapping[str, Any] | None) -> tuple[dict[str, Any], Mapping[str, Any]]:
    pipeline = OnnxDetector(path).pipeline() or fallback
    if not pipeline:
        raise UserError(f"{path} stores no pipeline (resize, mean, thresholds): it was not exported by this project")
    return {"_target_": "ocr.models.onnx.runtime.OnnxDetector", "path": str(path)}, pipeline


def check_checkpoint(path: Path, trusted: Collection[str] = ()) -> None:
    """Raise UserError where a checkpoint is damaged, is none, or names classes that no file may name."""
    stored_network(read_checkpoint(path)["hyper_parameters"]["network"], path, trusted)


def _read_checkpoint(
    path: Path, trusted: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """Network, pipeline, weights, and the test-time augmentation that the pipeline was tuned for."""
    checkpoint = read_checkpoint(path)
    parameters = checkpoint["hyper_parameters"]
    network = _without_other_weights(stored_network(parameters["network"], path, trusted))
    if not isinstance(network, dict):
        raise UserError(f"{path} is no checkpoint of this project: it does not describe its network")
    _check_size(network, checkpoint["state_dict"], path)
    try:
        return network, parameters["pipeline"], checkpoint["state_dict"], stored_tta(checkpoint)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _without_other_weights(node: Any) -> Any:
    """A description whose backbones neither download nor read weights: the checkpoint has them all."""
    if isinstance(node, (list, tuple)):
        return [_without_other_weights(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: False if key == "pretrained" else _without_other_weights(value)
        for key, value in node.items()
        if key != "checkpoint_path"  # of timm.create_model
    }


def _check_size(network: Mapping[str, Any], state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Compare names and shapes before memory is taken for them: a layer of any size can be described."""
    try:
        with torch.device("meta"):
            empty = instantiate(network)
    except Exception:  # a class that computes with its weights when it is made; what else is wrong comes up again
        log.debug("%s: not built without memory", path, exc_info=True)
        return
    if isinstance(empty, torch.nn.Module):
        check_fit(empty, state, path, "network.")


def checkpoint_entries(path: Path) -> dict[str, Any]:
    """All entries of a checkpoint, its tensors mapped from the disk; empty where the file is none."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except Exception:  # torch raises many kinds; what is wrong with the file is said by load_module
        return {}


def origin_of(checkpoint: Path) -> dict[str, Any]:
    """Facts about the W&B run that made a checkpoint; empty where it has none."""
    origin = checkpoint_entries(checkpoint).get("tracking")
    return dict(origin) if isinstance(origin, Mapping) else {}


def checkpoint_path(path: str | Path) -> Path:
    """A checkpoint file from its path or its run folder."""
    path = Path(path).expanduser()
    for candidate in (path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"):
        if path.is_dir() and candidate.is_file():
            return candidate
    if not path.is_file():
        raise UserError(f"checkpoint not found: {path}" + (" has no checkpoints/best.ckpt" if path.is_dir() else ""))
    return path
