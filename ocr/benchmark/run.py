"""Runs the parts, each in a process of its own, and keeps what they measured."""

from __future__ import annotations

import logging
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from ocr.benchmark.process import WorkerProcess
from ocr.benchmark.rows import Goal, Row, print_rows, write_rows
from ocr.errors import UserError, user_error
from ocr.utils.config import plain_config
from ocr.utils.machine import cores
from ocr.utils.memory import disable_malloc_trimming

log = logging.getLogger(__name__)
_HOMES = {"parts": ("startup", "index", "sample", "loader", "postprocess", "metrics"),
          "network": ("step", "training", "validation", "export")}  # fmt: skip
PARTS = {name: f"ocr.benchmark.{module}.{name}" for module, names in _HOMES.items() for name in names}


def benchmark(config: DictConfig, parts: Mapping[str, str] = PARTS) -> list[Row]:
    """Measure ``config.bench``, print the table, write ``benchmark.json`` into the run folder.

    Args:
        config: the composed config.
        parts: what can be measured: names of functions by name, each ``function(config) -> list[Row]``.

    Raises:
        UserError: an unknown part, or one that the settings do not go with.
    """
    names = list(parts) if config.bench == "all" else _listed(config.bench)
    if unknown := set(names) - set(parts):
        raise UserError(f"bench: no part {', '.join(sorted(unknown))}; there are all, {', '.join(parts)}")
    goals = {name: Goal(**goal) for name, goal in plain_config(config.goals).items()}
    plain = OmegaConf.to_container(config, resolve=True)
    file, rows = Path(config.paths.run_dir, "benchmark.json"), []
    for name in names:
        log.info("bench=%s", name)
        began = time.perf_counter()
        measured, peak = in_own_process(name, parts[name], plain)
        log.info("bench=%s: %.0f s", name, time.perf_counter() - began)
        rows += [*measured, Row.once(f"{name}.peak_memory", peak, "MB", "main process; loader workers beside it")]
        write_rows(file, rows, goals, machine())  # what has been measured stays when a later part is ended
    print_rows(rows, goals)
    log.info("written: %s", file)
    return rows


def machine() -> dict[str, Any]:
    """The machine that was measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {"device": device, "cores": cores(), "python": platform.python_version(), "torch": torch.__version__}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def in_own_process(name: str, target: str, config: Any) -> tuple[list[Row], float]:
    """Rows of a part, and its peak of resident memory in MB.

    Raises:
        UserError: of the part.
        RuntimeError: another error in it, with its traceback.
    """
    part = WorkerProcess(prepare_part, target, config)
    try:
        complaint, rows, peak = part()
    except RuntimeError as error:
        raise RuntimeError(f"bench={name} failed: {error}") from None
    finally:
        part.close()
    if complaint:
        raise UserError(f"bench={name}: {complaint}")
    return rows, peak


def prepare_part(target: str, config: Any) -> Callable[[], tuple[str, list[Row], float]]:
    """A part as work for :class:`WorkerProcess`: the user's fault, the rows, and the peak of resident memory in MB."""
    logging.basicConfig(level=logging.WARNING)
    # a spawned process would spawn its loader workers, too, which a training does not
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    disable_malloc_trimming()  # as every job does

    def work() -> tuple[str, list[Row], float]:
        try:
            rows = hydra.utils.get_method(target)(OmegaConf.create(config))
        except Exception as error:
            if (fault := user_error(error)) is None:
                raise
            return str(fault), [], 0.0
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return "", rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

    return work


def _listed(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
