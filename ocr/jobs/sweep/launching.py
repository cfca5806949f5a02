"""Workers of a sweep, started by one of Hydra's launchers: joblib, Ray, submitit."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, read_write

from ocr.jobs.command_line.overrides import text_of

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[3]
PREEMPTED = (140, 143)  # exit codes of a worker that SIGUSR2 or SIGTERM has ended
REQUEUE_WAIT_SECONDS = 900


def launcher_name(config: DictConfig) -> str:
    """The choice of ``hydra/launcher``; ``basic`` runs jobs in this process."""
    return str(config.hydra.runtime.choices["hydra/launcher"])


def make_launcher(
    context: HydraContext, task: TaskFunction, config: DictConfig, workers: int | None = None
) -> Launcher:
    """The launcher of a config, which starts that many workers side by side, where it can be told."""
    if launcher_name(config) != "basic":
        # functions are sent by their names to processes that look for the runners and the project
        own = [os.path.dirname(os.path.abspath(sys.argv[0])), str(ROOT)]
        os.environ["PYTHONPATH"] = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
    parts: dict[str, Any] = {"hydra_context": context, "task_function": task}
    changed = copy.deepcopy(config)
    if workers and "n_jobs" in changed.hydra.launcher:  # of joblib
        with read_write(changed.hydra):
            changed.hydra.launcher.n_jobs = workers
    launcher: Launcher = Plugins.instance().instantiate_launcher(**parts, config=changed)
    launcher.setup(**parts, config=config)  # Hydra 1.4 wants the launcher of the jobs as it was composed
    return launcher


def launch_workers(
    context: HydraContext, config: DictConfig, folder: Path, arguments: Sequence[str], workers: int
) -> None:
    """Run workers until all have ended.

    Args:
        context, config: of the sweep's command.
        folder: of the sweep; each worker has one below it.
        arguments: overrides with which a worker joins the sweep.
        workers: how many.
    """
    command = [sys.executable, os.path.abspath(sys.argv[0]), "-m", *arguments]
    launcher = make_launcher(context, partial(start_worker, command, os.getcwd()), config, workers)
    sweep_dir = text_of(str(folder.resolve()))
    jobs = [[f"hydra.sweep.dir={sweep_dir}", f"hydra.sweep.subdir=workers/{k}"] for k in range(workers)]
    for k, returned in enumerate(launcher.launch(jobs, initial_job_idx=0)):
        if returned.status is JobStatus.FAILED:
            log.error("worker %d could not be started: %s/workers/%d/run.log", k, folder, k)


def start_worker(command: Sequence[str], cwd: str, config: DictConfig) -> int:
    """The task that a launcher runs, wherever that is: a worker of the sweep, as a process of its own.

    The launcher's ``config`` is not used.

    Returns:
        The exit code: how many trials have failed.

    Raises:
        RuntimeError: Slurm has ended the worker, and did not queue the job again.
    """
    process = subprocess.Popen(command, cwd=cwd)
    try:
        code = process.wait()
        if code in PREEMPTED and "SLURM_JOB_ID" in os.environ:
            # Slurm queues a job again that still runs when its grace is over, not one that has ended by then
            time.sleep(REQUEUE_WAIT_SECONDS)
            raise RuntimeError(f"the worker was ended by signal {code - 128}")
        return code
    except BaseException:  # Ctrl-C, a scheduler that takes the machine back: the worker records how it ended
        process.terminate()
        process.wait()
        raise
