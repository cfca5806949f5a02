"""Runs the parts, each in a process of its own, and keeps what they measured."""

from __future__ import annotations

import logging
import multiprocessing
import platform
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

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
    chosen = [config.bench] if isinstance(config.bench, str) else list(config.bench)
    names = list(parts) if chosen == ["all"] else chosen
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
        rows += [*measured, Row.of(f"{name}.peak_memory", [peak], "MB", "main process; loader workers beside it")]
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
        RuntimeError: another error in it, with its traceback; or its process was killed.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        try:
            return process.submit(measure, target, config).result()
        except UserError as error:
            raise UserError(f"bench={name}: {error}") from None
        except RuntimeError as error:
            raise RuntimeError(f"bench={name} failed: {error}") from None


def measure(target: str, config: Any) -> tuple[list[Row], float]:
    """:func:`in_own_process`, in that process."""
    logging.basicConfig(level=logging.WARNING)
    # a spawned process would spawn its loader workers, too, which a training does not
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    disable_malloc_trimming()  # as every job does
    try:
        rows = hydra.utils.get_method(target)(OmegaConf.create(config))
    except Exception as error:  # not every kind can be sent to another process
        raise user_error(error) or RuntimeError(traceback.format_exc()) from None
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
