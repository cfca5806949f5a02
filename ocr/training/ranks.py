"""The processes of a distributed training: those of one machine are started for one job, watched, ended together.

Lightning's own launcher runs the command line again: of a sweep that is the whole sweep. And when a process dies it
kills the others, with a line that only its debug log has, so that the record is never closed.

Where torchrun or srun starts the ranks, on one machine or several, it watches them.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import lightning as L
import torch
import torch.distributed
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from ocr.errors import UserError, first_line
from ocr.tracking.ending import Ending, ending_of
from ocr.tracking.run import Tracking
from ocr.utils.distributed import started_ranks
from ocr.utils.machine import cores

log = logging.getLogger(__name__)
T = TypeVar("T")
RankCommand = Callable[[int], tuple[list[str], str]]  # of a rank: the command that runs this job, and its folder
STUCK_LIMIT_SECONDS = 10  # rank 0 waits in a collective that a dead rank will never join: NCCL does not notice
END_LIMIT_SECONDS = 5  # for the other ranks to end by themselves


class RankLauncher(_SubprocessScriptLauncher):
    """Starts the other ranks of this machine; when one dies, the job ends as failed and says which.

    Args:
        launcher: Lightning's, whose place it takes.
        tracking: its record is closed when rank 0 cannot do that any more.
    """

    def __init__(self, launcher: _SubprocessScriptLauncher, tracking: Tracking | None, command: RankCommand) -> None:
        super().__init__(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        self.tracking, self.command = tracking, command
        self._failed = threading.Event()  # rank 0 has left with an error

    def launch(self, function: Callable[..., T], *args: Any, trainer: L.Trainer | None = None, **kwargs: Any) -> T:
        """Run a function on all ranks.

        Raises:
            UserError: another rank was killed, or torchrun or srun has started another number of them.
        """
        try:
            self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        except ValueError as error:
            raise UserError(f"trainer.devices and trainer.num_nodes: {first_line(error)}") from error
        if not self.procs and not self.cluster_environment.creates_processes_externally:
            self._start_others()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, cores() // self.num_processes))
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            self._failed.set()
            if not _lost_contact(error):
                self.end_others()
                raise
            lost = self._lost(END_LIMIT_SECONDS) if self.procs else "another rank has ended; its own lines say why"
            self.end_others()
            if lost:
                raise UserError(lost) from error
            raise

    def _start_others(self) -> None:
        if torch.distributed.is_initialized():  # of the job before in a sweep
            torch.distributed.destroy_process_group()
        environment = self.cluster_environment
        shared = {
            "MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()), "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }  # fmt: skip
        for rank in range(1, self.num_processes):
            command, folder = self.command(rank)
            env = {**os.environ, **shared, "LOCAL_RANK": str(rank)}
            self.procs.append(subprocess.Popen(command, env=env, cwd=folder))
        atexit.register(self.end_others)
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def _watch(self) -> None:
        while not (lost := self._lost()):
            if all(process.poll() == 0 for process in self.procs):
                return
            time.sleep(1)
        if self._failed.wait(STUCK_LIMIT_SECONDS):
            return
        log.error("%s", lost)
        if self.tracking is None or self.tracking.close(Ending(2, "failed", lost)):
            self.end_others(0)
            os._exit(2)

    def _lost(self, seconds: float = 0) -> str | None:
        """Which rank has ended with an error and how, once one has, or None after that long."""
        deadline = time.monotonic() + seconds
        while True:
            for rank, process in enumerate(self.procs, 1):
                if code := process.poll():
                    return _loss(rank, process.pid, code)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.1)

    def end_others(self, seconds: float = END_LIMIT_SECONDS) -> None:
        """Wait that long for the other ranks to end, then kill them."""
        deadline = time.monotonic() + seconds
        for process in self.procs:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def watch_ranks(trainer: L.Trainer, tracking: Tracking | None, command: RankCommand) -> None:
    """Have :class:`RankLauncher` start the ranks of a trainer, where it would start any.

    Raises:
        UserError: the trainer has another number of ranks than were started, or than this machine alone can start.
    """
    _, started = started_ranks()
    if started > 1 and started != trainer.world_size:
        raise UserError(
            f"{started} processes of this command were started, but trainer.devices ({trainer.num_devices}) times "
            f"trainer.num_nodes ({trainer.num_nodes}) is {trainer.world_size}: trainer=ddp, or trainer=ddp_2nodes"
        )
    if started == 1 and trainer.num_nodes > 1 and "NODE_RANK" not in os.environ:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start this command on each machine with torchrun or srun, see "
            "docs/machines.md"
        )
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        trainer.strategy._launcher = RankLauncher(launcher, tracking, command)


def _loss(rank: int, pid: int, code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ": out of memory? fewer data.num_workers, a smaller data.batch_size" if name == "SIGKILL" else ""
        return f"rank {rank} (process {pid}) was killed by {name}{hint}"
    return f"rank {rank} (process {pid}) ended with exit code {code}; its own lines say why"


def _lost_contact(error: BaseException) -> bool:
    """Whether an error is that of a collective whose other side is gone."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def on_first_rank(trainer: L.Trainer, function: Callable[[], T]) -> T | None:
    """Run a function on rank 0 alone, while the others wait, however long that takes.

    Returns:
        Its value; None on the other ranks.

    Raises:
        BaseException: that of the function; on the other ranks SystemExit with its exit code, after a line that says
            why.
    """
    launcher = trainer.strategy.launcher
    if trainer.world_size == 1 or launcher is None:
        return function()
    return launcher.launch(partial(_first_then_others, trainer, function), trainer=trainer)


def _first_then_others(trainer: L.Trainer, function: Callable[[], T]) -> T | None:
    group = torch.distributed.new_group(backend="gloo", timeout=timedelta(days=7))  # NCCL would give up in minutes
    value, error = None, None
    failure: list[tuple[int, str] | None] = [None]
    if trainer.is_global_zero:
        try:
            value = function()
        except BaseException as caught:  # a signal, too
            error, ending = caught, ending_of(caught)
            failure = [(ending.exit_code, ending.reason)]
    torch.distributed.broadcast_object_list(failure, src=0, group=group)
    if error is not None:
        raise error
    if failure[0] is not None:
        code, reason = failure[0]
        log.error("rank %d ends, as rank 0 has failed: %s", trainer.global_rank, reason)
        raise SystemExit(code)
    return value
