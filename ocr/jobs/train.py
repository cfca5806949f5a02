"""Training: fit, choose the post-processing where that is asked for, test the best checkpoint."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from ocr.audit.statistics import check_text_sizes
from ocr.data.datamodule import DetectionData
from ocr.jobs.build import build_callbacks, build_data, build_loggers, build_module
from ocr.jobs.command_line.hydra_job import rank_command
from ocr.jobs.finish import evaluate, finish, record
from ocr.jobs.results import Headline, scalars
from ocr.jobs.settings import TrainSettings
from ocr.jobs.tune import choose_pipeline, tuning_metrics, write_with_pipeline
from ocr.metrics.collection import MetricCollection
from ocr.models.checkpoint_file import check_fit, read_checkpoint
from ocr.models.pretrained.ppocr import weights_file
from ocr.tracking.batch_images import image_callbacks
from ocr.tracking.job import Job
from ocr.tracking.run import Tracking
from ocr.training.callbacks.best_scores import BestScores
from ocr.training.callbacks.position import EpochPosition
from ocr.training.callbacks.predictions import PredictionWriter
from ocr.training.callbacks.pruning import TRIAL, Pruning
from ocr.training.checkpoints import CarryBest, CheckpointArtifacts, CheckpointRecords, KeepStart
from ocr.training.data_record import KEY as DATA_KEY
from ocr.training.data_record import DataRecord, TrainingOverlap, read_record
from ocr.training.loading import DetectorOverrides, load_module
from ocr.training.memory import FindBatchSize, explain_out_of_memory
from ocr.training.module import DetectionModule
from ocr.training.process import prepare_process
from ocr.training.ranks import on_first_rank, watch_ranks
from ocr.training.trainer import build_trainer
from ocr.training.trust import targets_in
from ocr.utils.config import instantiate

log = logging.getLogger(__name__)


def train(job: Job, settings: TrainSettings, tracking: Tracking | None, resumed: Path | None) -> dict[str, float]:
    """Fit, then test the best checkpoint.

    Args:
        job, settings: of the training.
        tracking: the W&B run, if there is one.
        resumed: the checkpoint to go on from, None for a fresh run.

    Returns:
        All final metrics under their logged keys; ``val/*`` are those of the best checkpoint.
    """
    started = time.perf_counter()
    prepare_process()
    L.seed_everything(settings.seed, workers=True, verbose=False)
    module = build_module(settings)
    data = build_data(settings.data, module.pipeline, settings.seed).load("train", "val")
    text_sizes = check_text_sizes(data.sources["train"], module.pipeline.resize, data.targets.min_text_size)
    if tested := settings.test and bool(data.resolved("test")):
        data.load("test")
    data_record = _data_record(job, settings, data, resumed)
    callbacks = build_callbacks(settings.callbacks)
    records = {"tracking": tracking.origin if tracking else {}, DATA_KEY: data_record.to_checkpoint()}
    callbacks += [FindBatchSize(data), EpochPosition(data), CheckpointRecords(job.redactor, records)]
    if resumed is not None:
        check_fit(module, read_checkpoint(resumed)["state_dict"], resumed)
        callbacks.append(CarryBest(resumed.parent))
    callbacks += image_callbacks(job, tracking, "val")
    if tracking is not None and job.logger.artifacts.checkpoints != "none":
        metadata = {key: tracking.origin[key] for key in ("config_hash", "git_commit")}
        metadata["data_fingerprint"] = data.fingerprint()
        callbacks.append(CheckpointArtifacts(tracking, settings.optimized_metric, metadata))
    trainer = build_trainer(settings.trainer, callbacks, build_loggers(job.folder, tracking))
    watch_ranks(trainer, tracking, rank_command)
    record(job, module, data, trainer, tracking, text_sizes)

    start = _validate_start(settings, trainer, module, data) if resumed is None else {}
    with explain_out_of_memory(trainer, data):
        trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True if resumed else None)
    metrics = scalars(trainer.callback_metrics) | start
    kept = [c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor and c.best_model_path]
    best, selected = kept[0].best_model_path if kept else None, "the epoch was chosen on these images"
    for callback in callbacks:
        if isinstance(callback, BestScores) and (callback.validated or not start):
            metrics.update(callback.scores)
            metrics["best_epoch"] = float(callback.epoch if callback.epoch is not None else -1)
            if callback.scores and callback.epoch is None:
                selected = "no epoch was better on these images than the initial weights, which were kept"
                log.warning("no epoch is better than the initial weights (%s %.4f), which best.ckpt holds",
                            callback.monitor, callback.scores[callback.monitor])  # fmt: skip

    info: dict[str, Any] = {"seconds_fit": round(time.perf_counter() - started, 2), "batch_size": data.batch_size,
                            "train_images": data.counts()["train"]["images"]}  # fmt: skip
    headline = Headline("val/hmean", "val", f"{selected}; no test was run" if best else "no validation was run")
    pruned = next((c.pruned for c in callbacks if isinstance(c, Pruning) and c.pruned), None)
    info["state"] = "interrupted" if trainer.interrupted else "pruned" if pruned else "finished"
    if pruned:
        log.info("%s", pruned)
        headline = Headline("val/hmean", "val", pruned)
        if tracking is not None:
            tracking.pruned = pruned
    elif not trainer.interrupted:
        measured, headline = _measure(
            job, settings, trainer, module, best, selected, data, data_record if tested else None
        )
        metrics |= measured
    info["seconds"] = round(time.perf_counter() - started, 2)
    finish(job, metrics, info, {"checkpoint": best or "none (no validation was run)"}, headline)
    return metrics


def _measure(
    job: Job, settings: TrainSettings, trainer: L.Trainer, module: DetectionModule, best: str | None, selected: str,
    data: DetectionData, tested: DataRecord | None,
) -> tuple[dict[str, float], Headline]:  # fmt: skip
    """Tune the best checkpoint where that is asked for, then measure it as it was written.

    Args:
        job, settings, trainer, data: of the training.
        module: what was trained, for a run without a validation.
        best: the checkpoint.
        selected: what was chosen on the validation images, one line.
        tested: tells what the images of the test split are to the checkpoint; None for no test.
    """
    metrics: dict[str, float] = {}
    note = f"{selected}, for the data has no test split" if settings.test else f"{selected}; no test was run"
    headline = Headline("val/hmean", "val", note if best else "no validation was run")
    writer = PredictionWriter(job.folder, settings.overlays)
    if tuned := best is not None and settings.tune:
        metrics |= _tune_best(job, settings, Path(best), data, trainer)
        headline = Headline("tune/held_out_hmean", "val", f"by cross-validation over the thresholds; {note}")
    if best is not None and (tuned or settings.test):
        module = _load_best(settings, best)
    if tuned or (settings.test and tested is None):
        validation = TrainingOverlap("val", len(data.identities("val")))
        metrics |= evaluate(trainer, module, data, validation, writer if tested is None else None)
    if tested is not None:
        overlap = TrainingOverlap.of("test", data.identities("test"), tested)
        metrics |= evaluate(trainer, module, data, overlap, writer)
        headline = Headline(f"{overlap.prefix}/hmean", overlap.selected_on, overlap.note)
    return metrics, headline


def _validate_start(
    settings: TrainSettings, trainer: L.Trainer, module: DetectionModule, data: DetectionData
) -> dict[str, float]:
    """Measure the initial weights, which the best checkpoint then holds until an epoch is better.

    Not in a sweep, where all harmful trials would tie, and not where these weights have learned from the images.

    Returns:
        Their figures of validation under ``start/``.
    """
    if not settings.keep_start or trainer.fast_dev_run or TRIAL.get() is not None:  # type: ignore[attr-defined]
        return {}
    weights = settings.model.weights
    seen = TrainingOverlap.of("val", data.identities("val"), read_record(weights_file(weights)) if weights else None)
    if seen.trained:
        log.warning("keep_start: %s has learned from %d of %d validation image(s): it is not measured on them", weights,
                    seen.trained, seen.images)  # fmt: skip
        return {}
    with explain_out_of_memory(trainer, data):
        trainer.validate(module, datamodule=data, verbose=False)
    scores = {name: value for name, value in scalars(trainer.callback_metrics).items() if name.startswith("val/")}
    trainer.callbacks.append(KeepStart(scores))  # type: ignore[attr-defined]
    return {name.replace("val/", "start/", 1): value for name, value in scores.items()}


def _data_record(job: Job, settings: TrainSettings, data: DetectionData, resumed: Path | None) -> DataRecord:
    """Record of this data, and of the images that the initial weights have seen."""
    data_record = DataRecord.of(data, settings.data["name"], job.logger.private)
    weights = settings.model.weights
    for start in (resumed, weights_file(weights) if weights else None):
        if start is not None and (earlier := read_record(start)) is not None:
            data_record = data_record.with_seen(earlier.seen)
    return data_record


def _load_best(settings: TrainSettings, best: str | Path) -> DetectionModule:
    """The checkpoint that this run has written, whose classes this command names."""
    module = load_module(best, DetectorOverrides(trusted_targets=[*targets_in(settings.model.network)]))
    module.metrics = MetricCollection(instantiate(settings.metrics))
    return module


def _tune_best(
    job: Job, settings: TrainSettings, best: Path, data: DetectionData, trainer: L.Trainer
) -> dict[str, float]:
    """The best checkpoint gets the pipeline that suits it; the first rank does it, the others wait."""

    def choose() -> dict[str, float]:
        module = _load_best(settings, best)
        grid = instantiate(settings.tuning)
        tuned = choose_pipeline(module, data, "val", grid, job.folder, trainer.strategy.root_device)
        write_with_pipeline(best, module, tuned.pipeline(module.pipeline), tuned.to_dict(), best)
        return tuning_metrics(tuned)

    return on_first_rank(trainer, choose) or {}
