"""Python objects and metric states from all processes of a distributed job."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed

T = TypeVar("T")


def gather_objects(value: T, group: Any = None) -> list[T]:
    """The picklable objects of all ranks, in their order; of one process a list of one.

    Also the ``dist_sync_fn`` of metrics whose states stay on the CPU: it works with NCCL as with gloo.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group=group)
    return values
