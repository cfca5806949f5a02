"""Hydra's way to a sweep: ``hydra/sweeper=study``, the default of this project. The work is in :mod:`ocr.jobs.sweep`.

Hydra takes sweepers from packages in ``hydra_plugins`` alone, and imports them at each start: keep this file light.
"""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """With ``+sweep=<preset>`` a study of Optuna; else one job for each combination, as Hydra's basic sweeper."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a sweep needs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs; raises SystemExit with the number of those that failed."""
        from ocr.jobs.sweep.sweeper import run_sweep

        return run_sweep(self.hydra_context, self.task_function, self.config, arguments)
