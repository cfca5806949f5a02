"""A sweep with ``+sweep=<preset>``: a study of Optuna, begun, joined or gone on with."""

from __future__ import annotations

import inspect
import json
import logging
import os
import secrets
import shlex
import sys
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_object
from omegaconf import DictConfig, read_write

from ocr.errors import UserError, one_line
from ocr.jobs.command_line.joining import OWN, resume_override, worker_arguments
from ocr.jobs.command_line.overrides import key_of
from ocr.jobs.sweep.folder import begin_folder, check_same, rank_jobs
from ocr.jobs.sweep.launching import launch_workers, launcher_name, make_launcher
from ocr.jobs.sweep.settings import read_sweep
from ocr.jobs.sweep.space import distribution_of, grid_cells, parse, split_overrides
from ocr.jobs.sweep.worker import Worker
from ocr.sweeps.devices import take_gpus, visible_gpus, workers_for
from ocr.sweeps.study import SharedStudy, open_storage, open_study
from ocr.tracking.secrets import Redactor, redactor_for
from ocr.utils.config import instantiate, plain_config

log = logging.getLogger(__name__)


class StudySweep:
    """A sweep, or one worker of it; its arguments are those of :func:`ocr.jobs.sweep.sweeper.run_sweep`, parsed.

    Raises:
        UserError: the sweep cannot begin.
    """

    def __init__(
        self, context: HydraContext, task: TaskFunction, config: DictConfig, overrides: Sequence[Override]
    ) -> None:
        self.context, self.task, self.config = context, task, config
        self.settings, self.objective = read_sweep(config)
        self.arguments = [str(override.input_line) for override in overrides]
        preset = parse(self.settings.space, OverridesParser.create(config_loader=context.config_loader))
        self.overrides, several = split_overrides([*preset, *overrides])
        self.space = {override.get_key_element(): distribution_of(override) for override in several}
        if not self.space:
            raise UserError("nothing varies: give a setting several values (optimizer.lr=1e-3,3e-3), or sweep.space")
        if "seed" in self.space and self.settings.seeds > 1:
            raise UserError("seed varies, and sweep.seeds gives each trial seeds of its own: one of the two")
        lines = [str(override.input_line) for override in several]
        if self._redactor.plain(lines) != lines:
            raise UserError(f"{', '.join(self.space)}: a password or token cannot vary, for the study would hold it")
        self.grid = [] if self.settings.sampler else grid_cells(self.space)
        self.n_trials = min(self.settings.n_trials or len(self.grid), len(self.grid) or sys.maxsize)
        if not self.n_trials:
            raise UserError("sweep.n_trials is not set: how many trials in all?")
        self.folder = Path(self.settings.resume or config.hydra.sweep.dir).expanduser()
        with read_write(config.hydra):
            config.hydra.sweep.dir = str(self.folder)

    def run(self) -> int:
        """Work, or have workers work, until the study has all of its trials; how many failed."""
        self._check_values()
        self._sampler(0)  # wrong arguments end the sweep before it has a folder
        gpus = visible_gpus() if str(self.config.trainer.accelerator) in ("auto", "gpu", "cuda") else []
        workers = self.settings.workers
        if workers == "auto":
            workers = workers_for(len(gpus), self.settings.gpus_per_job)
        alone = launcher_name(self.config) == "basic"
        if alone and workers > 1:
            raise UserError(f"sweep.workers={workers} needs a launcher that runs jobs side by side: "
                            "hydra/launcher=joblib (make setup EXTRAS=sweep)")  # fmt: skip
        shared = self._open()
        try:
            if alone:
                self._work(shared, gpus)
            else:
                arguments = worker_arguments(self.arguments, self.folder.resolve())
                launch_workers(self.context, self.config, self.folder, arguments, workers)
        except BaseException:
            if shared.trials():
                print(f"to go on: {self._command()}", file=sys.stderr)
            raise
        return self._end(shared)

    def _open(self) -> SharedStudy:
        settings = self.settings
        if settings.resume is None:
            way_on = f"{resume_override(self.folder)} goes on with it, or give another hydra.sweep.dir"
            # a database may have the studies of other folders of this name
            name = f"{self.folder.resolve().name}_{secrets.token_hex(4)}"
            begin_folder(self.folder, self._description() | {"study": name}, self.config, way_on)
        else:
            name = check_same(self.folder, self._description())["study"]
        storage = open_storage(settings.storage, self.folder)
        study = open_study(storage, name, self.objective.maximize, instantiate(settings.pruner) or None)
        log.info("sweep: %d trials of %d seed(s) in %s", self.n_trials, settings.seeds, self.folder)
        return SharedStudy(study, self.folder, self.space, self.n_trials, self._sampler, self.grid)

    def _work(self, shared: SharedStudy, gpus: Sequence[str]) -> None:
        """Be a worker, with cards of its own where there are any."""
        with take_gpus(gpus, self.settings.gpus_per_job) as cards:
            if cards:  # before CUDA starts in this process
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
            launcher = make_launcher(self.context, self.task, self.config)
            prune = bool(self.settings.pruner)
            Worker(shared, launcher, self.folder, self.overrides, self.objective, self.settings.seeds, prune).run()

    def _end(self, shared: SharedStudy) -> int:
        """Rank, unless another worker will; how many trials failed."""
        states = [trial.state.name for trial in shared.trials()]
        ended = sum(trial.state.is_finished() for trial in shared.trials())
        if ended < self.n_trials and launcher_name(self.config) != "basic":
            raise UserError(f"{ended} of {self.n_trials} trials are done: the workers have ended, their own lines say"
                            f" why; to go on: {self._command()}")  # fmt: skip
        if "RUNNING" in states:
            log.info("%d trials are still run by other workers; the last one ranks", states.count("RUNNING"))
        else:
            rank_jobs(self.config, self.folder)
        return states.count("FAIL")

    def _check_values(self) -> None:
        """Compose a config with each value of each choice, and with the lower end of each range.

        Raises:
            UserError: one does not compose.
        """
        for key, distribution in self.space.items():
            for value in getattr(distribution, "choices", None) or [getattr(distribution, "low", None)]:
                override = f"{key}={value}"
                try:
                    self.context.config_loader.load_sweep_config(self.config, [*self.overrides, override])
                except Exception as error:  # Hydra's and OmegaConf's kinds
                    raise UserError(f"{override}: {one_line(error)}") from error

    @cached_property
    def _redactor(self) -> Redactor:
        redactor = redactor_for(plain_config(self.config))
        redactor.learn_overrides(self.arguments)
        return redactor

    def _description(self) -> dict[str, Any]:
        """Settings that all workers of a sweep and all commands that go on with it share; without secrets."""
        sweep = {
            "command": self.arguments,
            "overrides": sorted(o for o in self.overrides if not key_of(o).startswith(OWN)),
            "space": {key: repr(distribution) for key, distribution in self.space.items()},
            "sampler": self.settings.sampler,
            "pruner": self.settings.pruner,
            "seeds": self.settings.seeds,
            "metric": self.objective.metric,
            "seed": self.objective.seed,
            "storage": self.settings.storage,
            "cwd": os.getcwd(),
        }
        return dict(self._redactor.plain(json.loads(json.dumps(sweep))))

    def _sampler(self, number: int) -> Any:
        """The sampler of a trial; of a grid it has nothing to choose."""
        node = self.settings.sampler or {"_target_": "optuna.samplers.RandomSampler"}
        seeded = "seed" in inspect.signature(get_object(str(node["_target_"]))).parameters
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls options experimental that it has had for years
            return instantiate(node, **({"seed": self.objective.seed + number} if seeded else {}))

    def _command(self) -> str:
        """The command that goes on with the sweep, without secrets."""
        kept = [a for a in self._redactor.plain(self.arguments) if key_of(a) != "sweep.resume"]
        return shlex.join(["python", "runners/train.py", "-m", *kept, resume_override(self.folder)])
