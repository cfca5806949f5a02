"""The jobs that the runners start, each read from top to bottom."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import hydra
import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from ocr.data.datamodule import DetectionData
from ocr.jobs.build import (
    build_callbacks,
    build_data,
    build_loggers,
    build_metrics,
    build_module,
    build_trainer,
    load_module,
    open_checkpoint,
    origin_of,
    prepare_process,
)
from ocr.jobs.finish import evaluate, finish, record
from ocr.jobs.results import Headline, scalars
from ocr.jobs.tune import choose_pipeline, tuning_metrics, write_tuned
from ocr.models.checkpoint_file import check_fit, read_checkpoint
from ocr.models.pretrained.ppocr import weights_file
from ocr.tracking.batch_images import ProblemBatches, WorstImages
from ocr.tracking.record import plain_config
from ocr.tracking.run import Tracking
from ocr.tracking.schema import check_logger
from ocr.tracking.secrets import redactor_for
from ocr.training.callbacks.best_scores import BestScores
from ocr.training.callbacks.predictions import PredictionWriter
from ocr.training.callbacks.progress import Progress
from ocr.training.checkpoints import CarryBest, CheckpointArtifacts, CleanCheckpoints
from ocr.training.data_record import DataRecord, KeepDataRecord, Standing, leave_out_seen, read_record
from ocr.training.loading import plain
from ocr.training.module import DetectionModule
from ocr.training.ranks import on_first_rank, watch_ranks
from ocr.training.resume import find_checkpoint
from ocr.training.trust import targets_in

log = logging.getLogger(__name__)
_SELECTED = "the epoch was chosen on these images"


def train(config: DictConfig, tracking: Tracking | None) -> dict[str, float]:
    """Fit, then test the best checkpoint.

    Args:
        config: the composed config.
        tracking: the W&B run, if there is one.

    Returns:
        All final metrics under their logged keys; ``val/*`` are those of the best checkpoint.
    """
    started = time.perf_counter()
    folder = Path(config.paths.run_dir)
    prepare_process()
    L.seed_everything(config.seed, workers=True, verbose=False)
    resumed = find_checkpoint(config.resume, Path(config.paths.output, config.name))
    module = build_module(config)
    data = build_data(config, module.pipeline).load("train", "val")
    if tested := bool(config.test) and data.found("test"):
        data.load("test")
    callbacks = build_callbacks(config)
    data_record = _data_record(config, data, resumed)
    callbacks.append(KeepDataRecord(data_record))
    callbacks.append(CleanCheckpoints(redactor_for(config), tracking.origin if tracking else {}))
    if resumed is not None:
        check_fit(module, read_checkpoint(resumed)["state_dict"], resumed)
        callbacks.append(CarryBest(resumed.parent))
    callbacks += tracking_callbacks(config, tracking, "val")
    if tracking is not None and tracking.settings.artifacts.checkpoints != "none":
        facts = {key: tracking.origin[key] for key in ("config_hash", "git_commit")}
        facts["data_fingerprint"] = data.fingerprint()
        callbacks.append(CheckpointArtifacts(tracking, config.optimized_metric, facts))
    trainer = build_trainer(config, callbacks, build_loggers(config, tracking))
    watch_ranks(trainer, tracking)
    record(config, module, data, trainer, tracking)

    trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True if resumed else None)
    metrics = scalars(trainer.callback_metrics)
    best = _best_checkpoint(callbacks)
    for callback in callbacks:
        if isinstance(callback, BestScores):
            metrics.update(callback.scores)
            metrics["best_epoch"] = float(callback.epoch if callback.epoch is not None else -1)

    facts: dict[str, Any] = {"seconds_fit": round(time.perf_counter() - started, 2)}
    headline = Headline("val/hmean", "val", f"{_SELECTED}; no test was run")
    if not trainer.interrupted:
        measured, headline = _measure(config, trainer, module, best, data, data_record if tested else None)
        metrics |= measured
    facts["seconds"] = round(time.perf_counter() - started, 2)
    finish(config, folder, metrics, facts, {"checkpoint": best or "none (no validation was run)"}, headline)
    return metrics


def _measure(
    config: DictConfig, trainer: L.Trainer, module: DetectionModule, best: str | None, data: DetectionData,
    tested: DataRecord | None,
) -> tuple[dict[str, float], Headline]:  # fmt: skip
    """Tune the best checkpoint where that is wanted, then measure it as it was written.

    Args:
        module: what was trained, for a run without a validation.
        best: the checkpoint.
        data: of the run.
        tested: tells what the images of the test split are to the checkpoint; None for no test.
    """
    metrics: dict[str, float] = {}
    note = f"{_SELECTED}, for the data has no test split" if config.test else f"{_SELECTED}; no test was run"
    headline = Headline("val/hmean", "val", note)
    writer = PredictionWriter(config.paths.run_dir, config.overlays)
    if tuned := best is not None and config.tune:
        metrics |= _tune_best(config, Path(best), data, trainer)
        headline = Headline("tune/held_out_hmean", "val", f"by cross-validation over the thresholds; {note}")
    if best is not None and (tuned or config.test):
        module = _load_best(config, best)
    if tuned or (config.test and tested is None):
        validation = Standing("val", len(data.identities("val")))
        metrics |= evaluate(trainer, module, data, validation, writer if tested is None else None)
    if tested is not None:
        standing = Standing.of("test", data.identities("test"), tested)
        metrics |= evaluate(trainer, module, data, standing, writer)
        headline = Headline(f"{standing.prefix}/hmean", standing.selected_on, standing.note)
    return metrics, headline


def _data_record(config: DictConfig, data: DetectionData, resumed: Path | None) -> DataRecord:
    """Of this data, and of what the weights that training starts from have seen."""
    data_record = DataRecord.of(data, config.data.name, config.logger.private)
    weights = config.model.get("weights")
    for start in (resumed, weights_file(weights) if weights else None):
        if start is not None and (earlier := read_record(start)) is not None:
            data_record = data_record.with_seen(earlier.seen)
    return data_record


def _load_best(config: DictConfig, best: str | Path) -> DetectionModule:
    """The checkpoint that this run has written, whose classes this command names."""
    module = load_module(best, {"trusted_targets": [*targets_in(plain(config.model.network))]})
    module.metrics = build_metrics(config)
    return module


def _tune_best(config: DictConfig, best: Path, data: DetectionData, trainer: L.Trainer) -> dict[str, float]:
    """The best checkpoint gets the pipeline that suits it; the first rank does it, the others wait."""

    def choose() -> dict[str, float]:
        module = _load_best(config, best)
        grid = hydra.utils.instantiate(config.tuning, _convert_="all")
        device = trainer.strategy.root_device
        tuned = choose_pipeline(module, data, "val", grid, Path(config.paths.run_dir), device)
        write_tuned(best, module, tuned, best)
        return tuning_metrics(tuned)

    return on_first_rank(trainer, choose) or {}


def test(config: DictConfig, checkpoint: Path, tracking: Tracking | None) -> dict[str, float]:
    """Test a checkpoint. The pipeline is the checkpoint's own.

    Args:
        config: the composed config.
        checkpoint: the file.
        tracking: the W&B run, if there is one.

    Returns:
        The metrics under their logged keys.
    """
    started = time.perf_counter()
    folder = Path(config.paths.run_dir)
    module, data = open_checkpoint(config, checkpoint, whole=config.split == "test")
    data_record = read_record(checkpoint)
    leave_out_seen(data, config.split, data_record)
    standing = Standing.of(config.split, data.identities(config.split), data_record)
    callbacks = [Progress(), *tracking_callbacks(config, tracking, "test")]
    trainer = build_trainer(config, callbacks, build_loggers(config, tracking))
    watch_ranks(trainer, tracking)
    record(config, module, data, trainer, tracking)
    if tracking is not None and tracking.settings.artifacts.checkpoints != "none":
        tracking.artifacts.use_checkpoint(checkpoint, origin_of(checkpoint))
    metrics = evaluate(trainer, module, data, standing, PredictionWriter(folder, config.overlays))
    facts = {"seconds": round(time.perf_counter() - started, 2), "ckpt_path": str(checkpoint), "split": config.split,
             "images": standing.images, "trained_on": standing.trained}  # fmt: skip
    headline = Headline(f"{standing.prefix}/hmean", standing.selected_on, standing.note)
    finish(config, folder, metrics, facts, {"checkpoint": checkpoint}, headline)
    return metrics


def _best_checkpoint(callbacks: list[L.Callback]) -> str | None:
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return callback.best_model_path
    return None


def tracking_callbacks(config: DictConfig, tracking: Tracking | None, stage: str) -> list[L.Callback]:
    """What shows in W&B which images are read badly; on all ranks, the first of which has the run."""
    logger = check_logger(plain_config(config.logger))
    settings = logger.per_batch_image_logging
    if not (logger.wandb.enabled and settings.enabled):
        return []
    redactor = redactor_for(config)
    run = tracking.run if tracking else None
    callbacks: list[L.Callback] = [ProblemBatches(run, settings, redactor, stage)]
    if settings.table_rows:
        worst = WorstImages(settings.table_rows, redactor)
        if tracking is not None:
            tracking.at_end(lambda: worst.write_table(tracking.run))
        callbacks.append(worst)
    return callbacks
