"""Batches from loader workers to a network on the same cores, through memory that is used again and again.

The loader's own way makes new shared memory for each batch, whose pages the system clears one by one: for 8 crops of
448 x 576 with their maps that takes 12 ms of a worker, where copying takes 0.5 ms. It also lies in /dev/shm, which a
container has 64 MB of unless told otherwise; this memory does not.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info


@dataclass(frozen=True)
class Filled:
    """What a worker sends of a batch: where it lies, and the values that are not in the memory."""

    worker: int
    slot: int
    turn: int
    count: int
    rest: dict[str, list[Any]]


def possible() -> bool:
    """Whether workers are forked, and so have the memory of the process that starts them."""
    return multiprocessing.get_start_method() == "fork"


class Handover:
    """Slots of memory that forked workers share, some for each worker, which it fills in turn.

    A loader that keeps the order gives a worker its next task when the main process has asked for the batch after the
    one ``ahead`` tasks earlier, so the one before that has been copied: ``ahead + 1`` slots are never
    overwritten too early. Should a loader work otherwise, :meth:`take` raises.

    Args:
        shapes: of a batch's uint8 tensors, by key.
        workers: number of worker processes.
        ahead: tasks that a worker is given at once, ``prefetch_factor`` of the loader.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], workers: int, ahead: int) -> None:
        self.slots = ahead + 1
        self._memory = {key: _shared((workers, self.slots, *shape), torch.uint8) for key, shape in shapes.items()}
        self._turns = _shared((workers, self.slots), torch.int64)
        self._turn = 0  # how many batches this worker has filled

    def put(self, items: Sequence[Mapping[str, Any]]) -> Filled:
        """Called by a worker, the loader's ``collate_fn``: the items side by side in the worker's next slot."""
        worker, slot = get_worker_info().id, self._turn % self.slots
        self._turn += 1
        self._turns[worker, slot] = self._turn
        for key, memory in self._memory.items():
            torch.stack([item[key] for item in items], out=memory[worker, slot, : len(items)])
        rest = {key: [item[key] for item in items] for key in items[0] if key not in self._memory}
        return Filled(worker, slot, self._turn, len(items), rest)

    def take(self, filled: Filled) -> dict[str, torch.Tensor]:
        """Called by the main process: a copy of the batch, in memory of its own.

        Raises:
            RuntimeError: the slot has been overwritten.
        """
        place = filled.worker, filled.slot
        batch = {key: memory[place][: filled.count].clone() for key, memory in self._memory.items()}
        if int(self._turns[place]) != filled.turn:
            raise RuntimeError("a loader worker was given more tasks at once than prefetch_factor: batches were lost")
        return batch | {key: torch.tensor(values) for key, values in filled.rest.items()}


def _shared(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Zeros that this process and those that it forks have in common."""
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize), dtype=dtype).view(*shape)


class HandoverLoader(DataLoader):
    """A loader whose forked worker processes use a :class:`Handover`; its arguments are those of DataLoader."""

    def __init__(self, *args: Any, handover: Handover, **kwargs: Any) -> None:
        self.handover = handover
        super().__init__(*args, collate_fn=handover.put, **kwargs)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:  # type: ignore[override]
        return map(self.handover.take, super().__iter__())
