"""A sweep from its command line to its exit code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from ocr.jobs.sweep.folder import begin_folder, rank_jobs
from ocr.jobs.sweep.launching import make_launcher
from ocr.jobs.sweep.study_sweep import StudySweep

log = logging.getLogger(__name__)
MAX_EXIT_CODE = 100  # failed jobs beyond that count as that many: shells use the codes above


def run_sweep(context: HydraContext, task: TaskFunction, config: DictConfig, arguments: Sequence[str]) -> None:
    """Run the jobs of a sweep, and rank them.

    Args:
        context, task: Hydra's.
        config: of the command line, without the values that vary.
        arguments: its overrides.

    Raises:
        UserError: the sweep cannot begin.
        SystemExit: with the number of failed jobs.
    """
    overrides = OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(arguments))
    if "sweep" in config:
        failed = StudySweep(context, task, config, overrides).run()
    else:
        failed = _every_combination(context, task, config, overrides)
    if failed:
        log.error("%d job%s failed; why stands in run.log of each", failed, "s" * (failed > 1))
        raise SystemExit(min(failed, MAX_EXIT_CODE))


def _every_combination(
    context: HydraContext, task: TaskFunction, config: DictConfig, overrides: Sequence[Override]
) -> int:
    """One job for each combination of values, as Hydra's basic sweeper; how many failed."""
    folder = Path(config.hydra.sweep.dir)
    jobs = BasicSweeper.split_arguments(list(overrides), None)[0]
    for job in jobs:  # a typing error ends the sweep before its first job
        context.config_loader.load_sweep_config(config, job)
    varied = {o.get_key_element(): str(o.input_line).partition("=")[2] for o in overrides if o.is_sweep_override()}
    way_on = "another hydra.sweep.dir, or -m +sweep=grid, which can be gone on with"
    begin_folder(folder, {"space": varied}, config, way_on)
    returned = make_launcher(context, task, config).launch(jobs, initial_job_idx=0)
    if str(config.get("optimized_metric")).startswith("val/"):  # a sweep of trainings
        rank_jobs(config, folder)
    return sum(job.status is JobStatus.FAILED for job in returned)
