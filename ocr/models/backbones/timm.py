"""Any timm model as the backbone; channels and strides come from the model."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from huggingface_hub import constants
from timm.models import FeatureInfo
from torch import nn

from ocr.errors import UserError, first_line

log = logging.getLogger(__name__)
COARSEST, FINEST = 32, 4


class TimmBackbone(nn.Module):
    """Features at strides 4 to 32 of a timm model.

    Args:
        name: a timm model that supports ``features_only``, e.g. ``resnet18``.
        pretrained: start from timm's weights; when they cannot be had, a warning and random weights.
        kwargs: further arguments of ``timm.create_model``.

    Attributes:
        channels, strides: of the features, finest first.
        pretrained: whether pretrained weights were loaded.

    Raises:
        UserError: no such model, or it has no feature pyramid.
    """

    def __init__(self, name: str, pretrained: bool, kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        kwargs = dict(kwargs or {})
        if not timm.is_model(name.split(".")[0]):
            close = timm.list_models(f"*{name[:6]}*")[:5]
            raise UserError(f"timm has no model {name!r}" + (f"; similar: {', '.join(close)}" if close else ""))
        self.body, self.pretrained = _create(name, pretrained, kwargs)
        info = self.body.feature_info
        assert isinstance(info, FeatureInfo)
        self._use = [i for i, stride in enumerate(info.reduction()) if FINEST <= stride <= COARSEST]
        self.channels = [info.channels()[i] for i in self._use]
        self.strides = [info.reduction()[i] for i in self._use]
        if not self.strides or self.strides[0] != FINEST or len(set(self.strides)) != len(self.strides):
            raise UserError(f"{name} gives features at strides {info.reduction()}; a detector needs 4, 8, 16, ...")

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Float (B, 3, H, W) to features (B, C_i, H / stride_i, W / stride_i), finest first."""
        features = self.body(x)
        return [features[i] for i in self._use]


def _create(name: str, pretrained: bool, kwargs: dict[str, Any]) -> tuple[nn.Module, bool]:
    if pretrained:
        try:
            with _no_waiting_for_the_hub():
                return timm.create_model(name, pretrained=True, features_only=True, **kwargs), True
        except Exception as error:  # the hub client raises many kinds; the retry below separates its from ours
            reason = first_line(error)
            log.warning("no pretrained weights for %s (%s): training starts from random ones", name, reason)
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **kwargs), False
    except (RuntimeError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"timm model {name!r} cannot be a backbone with {kwargs}: {error}") from error


@contextmanager
def _no_waiting_for_the_hub() -> Iterator[None]:
    """Make the hub's client fail at once without a network; weights in its cache are found without one."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(address: str, seconds: float = 5.0) -> bool:
    if getproxies():
        return True  # whether a proxy lets us through only a request can tell
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), timeout=seconds).close()
    except OSError:
        return False
    return True
