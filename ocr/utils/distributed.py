"""The processes of a distributed job: which one this is, and objects from all of them.

Torch is imported where it is needed: a runner asks for its rank before anything else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_STARTED = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))  # variables of torchrun and of srun


def started_ranks(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The rank of this process and the number of all, where torchrun or srun has started them; else (0, 1).

    >>> started_ranks({"RANK": "1", "WORLD_SIZE": "4"})
    (1, 4)
    >>> started_ranks({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})
    (0, 2)
    >>> started_ranks({"LOCAL_RANK": "1", "WORLD_SIZE": "4"}), started_ranks({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"})
    ((0, 1), (0, 1))
    """
    for rank, size in _STARTED:
        if environment.get(rank, "").isdecimal() and environment.get(size, "").isdecimal():
            return int(environment[rank]), int(environment[size])
    return 0, 1


def this_rank() -> int:
    """The rank of this process, known before a process group is made; 0 of a single process."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0))


def gather_objects(value: T) -> list[T]:
    """The picklable objects of all ranks, in their order; of one process a list of one."""
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
