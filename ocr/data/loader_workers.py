"""The processes of loaders: how many, how they start and how they end."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import signal

import cv2
import torch

from ocr.errors import UserError
from ocr.utils.machine import cores

HELD_SIGNALS = ("SIGTERM", "SIGHUP", "SIGUSR2")  # that a scheduler sends to all processes of a job


def worker_count(requested: int | str, training: bool = False) -> int:
    """Number of loader processes.

    Args:
        requested: a number, taken as it is; or "auto": all cores but one beside a GPU. On a CPU, where workers take
            cores from the network, half of the cores, and a quarter for training. With 0 processes the cores take
            turns: on 2 cores a training step is 0.89 to 0.92 of the speed without data, 0.82 to 0.86 with 1 process.
        training: for training batches.
    """
    if requested != "auto":
        if not isinstance(requested, int) or requested < 0:
            raise UserError(f"data.num_workers must be auto or a whole number from 0, got {requested!r}")
        return requested
    if torch.cuda.is_available():
        return max(1, min(16, cores() - 1))
    return min(8, cores() // 4) if training else max(1, min(8, cores() // 2))


def start_worker(worker: int) -> None:
    """Use one thread; leave signals to the main process, which ends its workers itself."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for name in HELD_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def kill_workers() -> None:
    """Kill the loader workers that are still there when this process ends."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes a killed worker for a failure
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


# multiprocessing sends SIGTERM, which they ignore, and waits; this comes before, also in a process that it has started
multiprocessing.util.Finalize(None, kill_workers, exitpriority=0)
