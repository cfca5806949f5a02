"""Checkpoint files as files: whole, of plain types, with weights that are numbers and fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ocr.errors import UserError, first_line
from ocr.utils.files import archive_fault

MAX_NAMES_SHOWN = 3  # names of weights in a message
PROBE_SIDE = 64  # pixels, a side of the image that a network is tried with


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this project.

    Raises:
        UserError: the file is damaged, holds more than tensors and plain values, or its weights are not finite.
    """
    if fault := archive_fault(path):
        raise UserError(f"{path} is no checkpoint of this project: {fault}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what is not a checkpoint
        reason = first_line(error)
        if reason.startswith("Weights only load"):  # torch goes on to advise loading what is not safe
            reason = "damaged, or more in it than tensors and plain values"
        raise UserError(f"{path} is no checkpoint of this project: {reason}") from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    parameters = content.get("hyper_parameters") if isinstance(content, dict) else None
    if not isinstance(parameters, Mapping) or not {"network", "pipeline"} <= set(parameters):
        raise UserError(f"{path} is no checkpoint of this project: it has no network and pipeline")
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} is no checkpoint of this project: it has no weights (state_dict)")
    check_finite(state, path)
    return content


def check_finite(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise a UserError when a file's weights are not all numbers."""
    bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise UserError(
            f"{path}: {len(bad)} of {len(state)} weights are not finite ({_some(bad)}): the training had diverged; "
            "take an earlier file of it"
        )


@torch.no_grad()
def check_map(network: nn.Module, path: Path) -> None:
    """Raise a UserError unless a network makes one map of one channel of an image, of the same size."""
    training = network.training
    size = (1, 1, PROBE_SIDE, PROBE_SIDE)
    try:
        shape = tuple(network.eval()(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE)).probability.shape)
    except Exception as error:  # layers that do not go together say so in as many ways
        raise UserError(f"{path} is no text detector: no image can be put through it ({first_line(error)})") from error
    finally:
        network.train(training)
    if shape != size:
        raise UserError(
            f"{path} is no text detector: it makes {shape} of an image of {PROBE_SIDE} x {PROBE_SIDE}, not {size}"
        )


def check_fit(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path, prefix: str = "") -> None:
    """Compare a checkpoint's weights with those that a network has, by name and shape.

    Args:
        network: on any device, the meta device included.
        state: the checkpoint's weights.
        path: the file, for the message.
        prefix: of the names in ``state``.

    Raises:
        UserError: one is missing, unknown or of another shape.
    """
    expected = {prefix + name: tuple(value.shape) for name, value in network.state_dict().items()}
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    other = [
        f"{name} is {'x'.join(map(str, state[name].shape))} instead of {'x'.join(map(str, shape))}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    counted = ((missing, "missing"), (unknown, "unknown"), (other, "of another shape"))
    faults = [f"{len(names)} {what} ({_some(names)})" for names, what in counted if names]
    if faults:
        raise UserError(f"{path}: its weights are not those of the network that it is for: {', '.join(faults)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMES_SHOWN]) + (", ..." if len(names) > MAX_NAMES_SHOWN else "")
