"""Choose post-processing on a labelled split, as a job or at the end of a training; write its files and record."""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import wandb

from ocr.data.datamodule import DetectionData
from ocr.drawing.plots import plot_surface
from ocr.jobs.build import build_loggers, open_detector, trainable
from ocr.jobs.finish import evaluate, finish, record
from ocr.jobs.results import Headline
from ocr.jobs.settings import TuneSettings
from ocr.pipeline import Pipeline
from ocr.tracking.job import Job
from ocr.tracking.run import Tracking
from ocr.training.data_record import KEY, DataRecord, TrainingOverlap, read_record
from ocr.training.loading import load_module
from ocr.training.module import DetectionModule
from ocr.training.trainer import build_trainer
from ocr.tuning.choice import FIGURES, Tuned
from ocr.tuning.grid import Grid
from ocr.tuning.search import tune as tune_module
from ocr.utils.config import instantiate
from ocr.utils.files import save_tensors, write_atomic

log = logging.getLogger(__name__)
MAX_ROWS = 200  # of the table in W&B; the file on disk has all


def tune(job: Job, settings: TuneSettings, checkpoint: Path, tracking: Tracking | None) -> None:
    """Choose the pipeline of a detector on a labelled split, and write it as a checkpoint with that pipeline."""
    started = time.perf_counter()
    split = settings.split
    module, data = open_detector(settings, checkpoint)
    module = trainable(module, checkpoint)
    trainer = build_trainer(settings.trainer, [], build_loggers(job.folder, tracking))
    record(job, module, data, trainer, tracking)
    device = trainer.strategy.root_device
    tuned = choose_pipeline(module, data, split, instantiate(settings.tuning), job.folder, device)
    tuned_path = job.folder / "checkpoints" / "tuned.ckpt"
    images = data.identities(split)
    data_record = read_record(checkpoint) or DataRecord.of(data, settings.data["name"], job.logger.private)
    data_record = data_record.with_seen({"val": images})
    write_with_pipeline(checkpoint, module, tuned.pipeline(module.pipeline), tuned.to_dict(), tuned_path, data_record)
    metrics = tuning_metrics(tuned)
    metrics |= evaluate(trainer, load_module(tuned_path), data, TrainingOverlap(split, len(images)))
    note = f"by cross-validation over the thresholds; {split}/* is the checkpoint, on what these were chosen on"
    headline = Headline("tune/held_out_hmean", split, note)
    info = {"seconds": round(time.perf_counter() - started, 2), "tuned": tuned.to_dict(), "ckpt_path": str(checkpoint)}
    finish(job, metrics, info, {"checkpoint": tuned_path, "table": job.folder / "tuning.csv"}, headline)


def choose_pipeline(
    module: DetectionModule, data: DetectionData, split: str, grid: Grid, folder: Path, device: torch.device
) -> Tuned:
    """Tune on a split, write ``tuning.csv``, ``tuning.json`` and ``tuning.png``, and log them to W&B."""
    tuned = tune_module(module, data.sources[split], grid, device, data.num_workers)
    columns, rows = [*tuned.table[0]], io.StringIO(newline="")
    writer = csv.DictWriter(rows, columns)
    writer.writeheader()
    writer.writerows(tuned.table)
    write_atomic(folder / "tuning.csv", rows.getvalue())
    write_atomic(folder / "tuning.json", json.dumps(tuned.to_dict(), indent=2) + "\n")
    was, became = (
        f"{figures['objective']:.4f} (hmean {figures['hmean']:.4f}, DetEval {figures['deteval_hmean']:.3f})"
        for figures in (tuned.before, tuned.best)
    )
    title = f"objective {was} before, {became} tuned; {tuned.gain():+.4f} on images it was not chosen on"
    picture = plot_surface(tuned.table, folder / "tuning.png", title)
    if wandb.run is not None:
        table = wandb.Table(columns=[*columns], data=[[row.get(c) for c in columns] for row in tuned.table[:MAX_ROWS]])
        wandb.run.log({"tune/surface": wandb.Image(str(picture)), "tune/table": table})
    best = tuned.table[0] if tuned.kept_current else tuned.best
    chosen = "the best one" if tuned.kept_current else {k: v for k, v in best.items() if k not in FIGURES}
    log.info(
        "tuned over %d combinations: hmean %.4f (DetEval %.3f) before, %.4f (%.3f) with %s; on held-out folds hmean "
        "%+.4f, DetEval %+.3f, weighted %+.4f (+- %.4f between folds)%s",
        len(tuned.table), tuned.before["hmean"], tuned.before["deteval_hmean"], best["hmean"], best["deteval_hmean"],
        chosen, tuned.gain("hmean"), tuned.gain("deteval_hmean"), tuned.gain(), tuned.held_out_spread,
        ": a loss, so the thresholds stay as they were" if tuned.kept_current else "",
    )  # fmt: skip
    return tuned


def tuning_metrics(tuned: Tuned) -> dict[str, float]:
    """``tune/*``: before, after, and cross-validated."""
    groups: dict[str, Mapping[str, Any]] = {"before": tuned.before, "tuned": tuned.best, "held_out": tuned.held_out}
    metrics = {f"tune/{group}_{name}": float(values[name]) for group, values in groups.items() for name in FIGURES}
    return metrics | {"tune/gain": tuned.gain(), "tune/gain_spread": tuned.held_out_spread}


def write_with_pipeline(
    source: Path,
    module: DetectionModule,
    pipeline: Pipeline,
    tuned: dict[str, Any],
    target: Path,
    data_record: DataRecord | None = None,
) -> None:
    """Write a checkpoint with another pipeline; all else of it stays as it was.

    Args:
        source: the checkpoint, or the ONNX file that the module was read from.
        module: the detector.
        pipeline: to be stored.
        tuned: plain words on how it was chosen.
        target: the file to write.
        data_record: in place of the one in the checkpoint.
    """
    if source.suffix == ".onnx":
        content: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        content["pytorch-lightning_version"] = L.__version__
    else:
        content = torch.load(source, map_location="cpu", weights_only=True)
    content["hyper_parameters"]["pipeline"] = pipeline.to_dict()
    content["tuned"] = tuned
    content.pop("views", None)  # the key of earlier releases
    content["tta"] = module.tta.changed()
    if data_record is not None:
        content[KEY] = data_record.to_checkpoint()
    save_tensors(content, target)
