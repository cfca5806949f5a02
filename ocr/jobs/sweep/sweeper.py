"""A sweep from its command line to its ranking."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, read_write

from ocr.errors import UserError, one_line
from ocr.jobs.command_line.hydra_job import SWEEP
from ocr.jobs.command_line.joining import resume_override, worker_arguments
from ocr.jobs.command_line.overrides import key_of, text_of
from ocr.jobs.sweep.leaderboard import publish, write_leaderboard
from ocr.jobs.sweep.settings import read_sweep
from ocr.jobs.sweep.space import distribution_of, grid_cells, override_text, parse, split_overrides
from ocr.jobs.sweep.worker import Worker
from ocr.sweeps.devices import take_gpus, visible_gpus, worker_count
from ocr.sweeps.study import SharedStudy, open_storage, open_study
from ocr.tracking.schema import check_logger
from ocr.tracking.secrets import redactor_for
from ocr.utils.config import instantiate, plain_config
from ocr.utils.files import write_atomic

log = logging.getLogger(__name__)
MAX_EXIT_CODE = 100  # failed jobs beyond that count as that many: shells use the codes above


def run_sweep(context: HydraContext, task_function: TaskFunction, config: DictConfig, arguments: Sequence[str]) -> None:
    """Run the jobs of a sweep, and rank them.

    Args:
        context: Hydra's.
        task_function: a job.
        config: of the first job, without the values that vary.
        arguments: the overrides of the command line.

    Raises:
        UserError: the sweep cannot begin.
        SystemExit: with the number of failed jobs.
    """
    parser = OverridesParser.create(config_loader=context.config_loader)
    overrides = parser.parse_overrides(list(arguments))
    # launchers send functions by their names to processes that look for the runners and the project
    own = [os.path.dirname(os.path.abspath(sys.argv[0])), str(Path(__file__).resolve().parents[3])]
    os.environ["PYTHONPATH"] = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
    if "sweep" in config:
        failed = StudySweep(context, task_function, config, overrides).run()
    else:
        failed = _every_combination(context, task_function, config, overrides)
    if failed:
        log.error("%d job%s failed; why stands in run.log of each", failed, "s" * (failed > 1))
        raise SystemExit(min(failed, MAX_EXIT_CODE))


def _every_combination(
    context: HydraContext, task_function: TaskFunction, config: DictConfig, overrides: Sequence[Override]
) -> int:
    """One job for each combination of values; how many failed."""
    folder = Path(config.hydra.sweep.dir)
    _refuse_used(folder, "another hydra.sweep.dir, or -m +sweep=grid, which can be gone on with")
    jobs = BasicSweeper.split_arguments(list(overrides), None)[0]
    for job in jobs:  # a typing error ends the sweep before its first job
        context.config_loader.load_sweep_config(config, job)
    _write_config(config, folder)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=task_function, config=config
    )
    varied = {o.get_key_element(): str(o.input_line).partition("=")[2] for o in overrides if o.is_sweep_override()}
    _write_facts(folder, {"space": varied}, config)
    returned = launcher.launch(jobs, initial_job_idx=0)
    if "optimized_metric" in config:  # a sweep of trainings
        _rank(config, folder)
    return sum(job.status is JobStatus.FAILED for job in returned)


def _rank(config: DictConfig, folder: Path) -> None:
    publish(write_leaderboard(folder), folder, check_logger(plain_config(config.logger) | {"save_dir": str(folder)}))


def _refuse_used(folder: Path, way_on: str) -> None:
    if any(folder.glob("*/.hydra")) or (folder / SWEEP).is_file():
        raise UserError(f"{folder} has the jobs of another sweep: {way_on}")


def _write_config(config: DictConfig, folder: Path) -> None:
    """``multirun.yaml``, as Hydra's own sweepers write it."""
    content: Any = OmegaConf.to_container(config, resolve=False)
    clean = redactor_for(plain_config(config)).settings(content)
    write_atomic(folder / "multirun.yaml", OmegaConf.to_yaml(OmegaConf.create(clean)))


def _write_facts(folder: Path, facts: Mapping[str, Any], config: DictConfig) -> None:
    clean = redactor_for(plain_config(config)).plain(facts)
    write_atomic(folder / SWEEP, json.dumps(clean, indent=1, ensure_ascii=False) + "\n")


class StudySweep:
    """A sweep with ``+sweep=<preset>``.

    Args:
        context, task_function, config: as of :func:`run_sweep`.
        overrides: of the command line, parsed.
    """

    def __init__(
        self, context: HydraContext, task_function: TaskFunction, config: DictConfig, overrides: Sequence[Override]
    ) -> None:
        self.context, self.task_function, self.config = context, task_function, config
        self.settings, self.objective = read_sweep(config)
        self.arguments = [override.input_line or "" for override in overrides]
        preset = parse(self.settings.space, OverridesParser.create(config_loader=context.config_loader))
        self.overrides, several = split_overrides([*preset, *overrides])
        self.space = {override.get_key_element(): distribution_of(override) for override in several}
        if not self.space:
            raise UserError("nothing varies: give a setting several values (optimizer.lr=1e-3,3e-3), or sweep.space")
        self.folder = Path(self.settings.resume or config.hydra.sweep.dir).expanduser()
        with read_write(config.hydra):
            config.hydra.sweep.dir = str(self.folder)

    def run(self) -> int:
        """Work, or have workers work, until the study has all of its trials; how many failed."""
        self._check_values()
        self._sampler(0)  # wrong arguments end the sweep before it has a folder
        grid = [] if self.settings.sampler else grid_cells(self.space)
        n_trials = self.settings.n_trials or len(grid)
        if not n_trials:
            raise UserError("sweep.n_trials is not set: how many trials in all?")
        n_trials = min(n_trials, len(grid)) if grid else n_trials
        self._settle_folder()
        settings = self.settings
        pruner = instantiate(settings.pruner) or None
        study = open_study(
            open_storage(settings.storage, self.folder), self.folder.resolve().name, self.objective.maximize, pruner
        )
        shared = SharedStudy(study, self.folder, self.space, n_trials, self._sampler, grid)
        log.info("sweep: %d trials of %d seed(s) in %s", n_trials, settings.seeds, self.folder)
        launcher = str(self.config.hydra.runtime.choices["hydra/launcher"])
        on_gpus = str(self.config.trainer.accelerator) in ("auto", "gpu", "cuda")
        gpus = visible_gpus() if on_gpus else []
        workers = self.settings.workers
        if workers == "auto":
            workers = worker_count(len(gpus), self.settings.gpus_per_job)
        try:
            if launcher != "basic":
                self._launch_workers(workers)
            elif workers > 1:
                raise UserError(f"sweep.workers={workers} needs a launcher that runs jobs side by side: "
                                "hydra/launcher=joblib (make setup EXTRAS=sweep)")  # fmt: skip
            else:
                with take_gpus(gpus, self.settings.gpus_per_job) as cards:
                    if cards:  # before CUDA starts in this process
                        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(cards)
                    self._worker(shared).run()
        except BaseException:
            if shared.trials():
                print(f"to go on: {self._command()}", file=sys.stderr)
            raise
        if running := shared.running():
            log.info("%d trials are still run by other workers; the last one writes the ranking", len(running))
        else:
            _rank(self.config, self.folder)
        return sum(trial.state.name == "FAIL" for trial in shared.trials())

    def _check_values(self) -> None:
        """Compose a config with each value of each choice, and one with the ends of each range.

        Raises:
            UserError: one does not compose.
        """
        from optuna.distributions import CategoricalDistribution

        for key, distribution in self.space.items():
            ends = [getattr(distribution, "low", None)]
            values = distribution.choices if isinstance(distribution, CategoricalDistribution) else ends
            for value in values:
                override = override_text(key, value)
                try:
                    self.context.config_loader.load_sweep_config(self.config, [*self.overrides, override])
                except Exception as error:  # Hydra's and OmegaConf's kinds
                    raise UserError(f"{override}: {one_line(error)}") from error

    def _settle_folder(self) -> None:
        """Begin a folder, or check that this command goes on with the sweep that it has.

        Raises:
            UserError: there is another sweep in it, or none where one was to be gone on with.
        """
        common = self._common()
        path = self.folder / SWEEP
        if self.settings.resume is None:
            _refuse_used(self.folder, f"sweep.resume={self.folder} goes on with it, or give another hydra.sweep.dir")
            _write_config(self.config, self.folder)
            _write_facts(self.folder, common, self.config)
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"sweep.resume={self.folder}: {path} cannot be read: is this the folder of a sweep?"
            ) from error
        different = [key for key in common if key != "command" and before.get(key) != common[key]]
        if different:
            words = "; ".join(f"{key} was {before.get(key)!r}, is {common[key]!r}" for key in different)
            raise UserError(f"sweep.resume={self.folder}: that sweep had other settings: {words}")

    def _common(self) -> dict[str, Any]:
        """What all workers of a sweep, and all commands that go on with it, have in common; without secrets."""
        redactor = redactor_for(plain_config(self.config))
        redactor.learn_overrides(self.arguments)
        launching = ("hydra/launcher", "hydra.launcher", "hydra.sweep")
        shown = [o for o in self.overrides if not key_of(o).startswith(launching)]
        plain = {
            "command": self.arguments,
            "overrides": sorted(shown),
            "space": {key: repr(distribution) for key, distribution in self.space.items()},
            "sampler": self.settings.sampler,
            "pruner": self.settings.pruner,
            "seeds": self.settings.seeds,
            "metric": self.objective.metric,
            "seed": self.objective.seed,
        }
        return dict(redactor.plain(json.loads(json.dumps(plain))))

    def _sampler(self, number: int) -> Any:
        """The sampler of a trial; of a grid it has nothing to choose."""
        node = self.settings.sampler or {"_target_": "optuna.samplers.RandomSampler"}
        seeded = "seed" in inspect.signature(get_object(str(node["_target_"]))).parameters
        return instantiate(node, **({"seed": self.objective.seed + number} if seeded else {}))

    def _worker(self, shared: SharedStudy) -> Worker:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task_function, config=self.config
        )
        prune = bool(self.settings.pruner)
        return Worker(shared, launcher, self.folder, self.overrides, self.objective, self.settings.seeds, prune)

    def _launch_workers(self, workers: int) -> None:
        """Have Hydra's launcher start workers: each is this command again, which joins the sweep."""
        config = copy.deepcopy(self.config)
        with read_write(config.hydra):
            if "n_jobs" in config.hydra.launcher:  # of joblib: how many side by side
                config.hydra.launcher.n_jobs = workers
        parts: dict[str, Any] = {"hydra_context": self.context,
                                 "task_function": partial(start_worker, self._worker_command())}  # fmt: skip
        launcher = Plugins.instance().instantiate_launcher(**parts, config=config)
        launcher.setup(**parts, config=self.config)  # Hydra 1.4 wants the jobs' launcher as it was composed
        folder = text_of(str(self.folder.resolve()))
        jobs = [[f"hydra.sweep.dir={folder}", f"hydra.sweep.subdir=workers/{k}"] for k in range(workers)]
        for k, returned in enumerate(launcher.launch(jobs, initial_job_idx=0)):
            if returned.status is JobStatus.FAILED:
                log.error("worker %d could not be started: %s/workers/%d/run.log", k, self.folder, k)

    def _worker_command(self) -> list[str]:
        script = os.path.abspath(sys.argv[0])
        return [sys.executable, script, "-m", *worker_arguments(self.arguments, self.folder.resolve())]

    def _command(self) -> str:
        redactor = redactor_for(plain_config(self.config))
        redactor.learn_overrides(self.arguments)
        kept = [a for a in redactor.plain(self.arguments) if key_of(a) != "sweep.resume"]
        return shlex.join(["python", "runners/train.py", "-m", *kept, resume_override(self.folder)])


def start_worker(command: Sequence[str], config: DictConfig) -> int:
    """The task that a launcher runs, wherever that is: a worker of the sweep, as a process of its own.

    Args:
        command: of the worker.
        config: of the launcher's job, not used.

    Returns:
        The exit code: how many trials have failed.
    """
    process = subprocess.Popen(command)
    try:
        return process.wait()
    except BaseException:  # Ctrl-C, a scheduler that takes the machine back: the worker records how it ended
        process.terminate()
        process.wait()
        raise
