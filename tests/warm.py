"""Runners in processes that have imported the libraries already: a test that starts ten of them waits for one import.

A server process, one per process of the tests, imports the libraries and forks a child per runner, which takes its
arguments, environment and folder and executes the runner's file as Python would.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

# not wandb, nor timm, which imports it: its folder for pictures would be one for all children
LIBRARIES = ["cv2", "hydra", "lightning.pytorch", "matplotlib.pyplot", "shapely", "torchmetrics", "torchvision"]


def run_warm(command: list[str], cwd: Path, env: dict[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
    """``subprocess.run(command[1:])`` of a Python file in a forked child.

    Args:
        command: interpreter, file, arguments.
        cwd: the child's folder.
        env: its whole environment.
        timeout: seconds.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        files = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (stdout, stderr)]
        child = context.Process(target=_execute, args=(command[1:], str(cwd), env, *files))
        child.start()
        child.join(timeout)
        if late := child.is_alive():
            child.kill()
            child.join()
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode())
    if late:
        raise subprocess.TimeoutExpired(command, timeout, *texts)
    assert child.exitcode is not None
    return subprocess.CompletedProcess(command, child.exitcode, *texts)


def _execute(arguments: list[str], cwd: str, env: dict[str, str], stdout: str, stderr: str) -> None:
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv[:] = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    atexit._clear()  # what the server has registered is its own
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()
