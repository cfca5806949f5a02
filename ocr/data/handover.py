"""Batches from loader workers to a network on the same cores, through memory that is used again and again.

The loader's own way makes new shared memory for each batch, whose pages the system clears one by one: for 8 crops of
448 x 576 with their maps that takes 12 ms of a worker, where copying takes 0.5 ms. It also lies in /dev/shm, which a
container has 64 MB of unless told otherwise; this memory does not.

Workers run only while a core would be idle. A network's threads wait for each other at the end of each operation, so
that a worker which takes one of their cores stops the others too; in the gaps, and while the network waits for a
batch, it costs nothing. Where other programs leave no core idle such workers would hardly run, and without privileges
a process cannot go back: the loader notices that it waits, ends them, and goes on with others at the usual priority.
"""

from __future__ import annotations

import itertools
import logging
import math
import mmap
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

from ocr.utils.machine import run_when_idle

log = logging.getLogger(__name__)
PATIENCE = 3.0  # times the processor time of a batch are no wait
LATE = 3.0  # seconds that the network may wait for a batch, and have waited beyond that for several


@dataclass(frozen=True)
class Filled:
    """What a worker sends of a batch: where it lies, and the values that are not in the memory.

    Attributes:
        seconds: of processor time since the worker's last batch.
    """

    worker: int
    slot: int
    turn: int
    count: int
    seconds: float
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
        self.shapes, self.workers, self.ahead = shapes, workers, ahead
        self.slots = ahead + 1
        self._memory = {key: _shared((workers, self.slots, *shape), torch.uint8) for key, shape in shapes.items()}
        self._turns = _shared((workers, self.slots), torch.int64)
        self._turn = 0  # how many batches this worker has filled
        self._worked = 0.0  # processor time until the last of them, s

    def anew(self) -> Handover:
        """Another one like this."""
        return Handover(self.shapes, self.workers, self.ahead)

    def put(self, items: Sequence[Mapping[str, Any]]) -> Filled:
        """Called by a worker, the loader's ``collate_fn``: the items side by side in the worker's next slot."""
        worker, slot = get_worker_info().id, self._turn % self.slots
        self._turn += 1
        self._turns[worker, slot] = self._turn
        for key, memory in self._memory.items():
            torch.stack([item[key] for item in items], out=memory[worker, slot, : len(items)])
        rest = {key: [item[key] for item in items] for key in items[0] if key not in self._memory}
        before, self._worked = self._worked, time.process_time()
        return Filled(worker, slot, self._turn, len(items), self._worked - before, rest)

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
    """A loader whose forked worker processes use a :class:`Handover`; its arguments are those of DataLoader.

    The sampler must draw the same whenever it is asked within an epoch.
    """

    def __init__(
        self, *args: Any, handover: Handover, worker_init_fn: Callable[[int], None] | None = None, **kwargs: Any
    ) -> None:
        self.handover = handover
        self._at_usual_priority = worker_init_fn
        self.yielding = True  # to all other processes
        start = partial(_yielding, worker_init_fn)
        super().__init__(*args, collate_fn=handover.put, worker_init_fn=start, timeout=LATE, **kwargs)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:  # type: ignore[override]
        return self._copies(super().__iter__())  # whose workers start now

    def _copies(self, batches: Iterator[Filled]) -> Iterator[dict[str, torch.Tensor]]:
        late, taken = 0.0, 0
        while True:
            asked = time.perf_counter()
            try:
                filled = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                if not self.yielding or "timed out" not in str(error):
                    raise  # a worker's own error
                batches = self._hurry(taken)
                continue
            late = max(0.0, late + time.perf_counter() - asked - PATIENCE * filled.seconds)
            taken += 1
            yield self.handover.take(filled)
            if self.yielding and late > LATE:
                batches = self._hurry(taken)

    def _hurry(self, taken: int) -> Iterator[Filled]:
        """The batches after the first ``taken`` ones of this epoch; from now on workers do not yield."""
        log.info("loader workers waited for an idle core, and the network for them: they no longer yield to others")
        if self._iterator is not None:
            self._iterator._shutdown_workers()
            self._iterator = None
        self.yielding = False
        self.timeout = 0.0
        self.worker_init_fn = self._at_usual_priority
        self.handover = self.handover.anew()  # one of the old workers may still write
        self.collate_fn = self.handover.put
        rest = DataLoader(
            self.dataset,
            batch_sampler=list(itertools.islice(self.batch_sampler, taken, None)),
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            collate_fn=self.collate_fn,
            worker_init_fn=self.worker_init_fn,
            multiprocessing_context=self.multiprocessing_context,
        )
        return iter(rest)


def _yielding(start: Callable[[int], None] | None, worker: int) -> None:
    if start:
        start(worker)
    run_when_idle()
