"""The processes of a distributed job: which one this is, and objects from all of them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.distributed

T = TypeVar("T")


def this_rank() -> int:
    """The rank of this process, known before a process group is made; 0 of a single process."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0))


def gather_objects(value: T, group: Any = None) -> list[T]:
    """The picklable objects of all ranks, in their order; of one process a list of one.

    Also the ``dist_sync_fn`` of metrics whose states stay on the CPU: it works with NCCL as with gloo.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group=group)
    return values
