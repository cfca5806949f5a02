"""Testing: a checkpoint on a labelled split, with the pipeline that it stores."""

from __future__ import annotations

import time
from pathlib import Path

from ocr.jobs.build import build_loggers, open_detector
from ocr.jobs.command_line.hydra_job import rank_command
from ocr.jobs.finish import evaluate, finish, record
from ocr.jobs.results import Headline
from ocr.jobs.settings import TestSettings
from ocr.metrics.collection import MetricCollection
from ocr.tracking.batch_images import image_callbacks
from ocr.tracking.job import Job
from ocr.tracking.run import Tracking
from ocr.training.callbacks.predictions import PredictionWriter
from ocr.training.callbacks.progress import Progress
from ocr.training.data_record import TrainingOverlap, drop_seen_images, read_record
from ocr.training.loading import origin_of
from ocr.training.page_reader import PageReader
from ocr.training.ranks import watch_ranks
from ocr.training.trainer import build_trainer
from ocr.utils.config import instantiate


def test(job: Job, settings: TestSettings, checkpoint: Path, tracking: Tracking | None) -> None:
    """Test a checkpoint with the pipeline that it stores."""
    started = time.perf_counter()
    split = settings.split
    module, data = open_detector(settings, checkpoint, whole=split == "test")
    module.metrics = MetricCollection(instantiate(settings.metrics))
    module.page_reader = PageReader(settings.upright, settings.legible_height)
    data_record = read_record(checkpoint)
    drop_seen_images(data, split, data_record)
    overlap = TrainingOverlap.of(split, data.identities(split), data_record)
    callbacks = [Progress(), *image_callbacks(job, tracking, "test")]
    trainer = build_trainer(settings.trainer, callbacks, build_loggers(job.folder, tracking))
    watch_ranks(trainer, tracking, rank_command)
    record(job, module, data, trainer, tracking)
    if tracking is not None and job.logger.artifacts.checkpoints != "none":
        tracking.artifacts.use_checkpoint(checkpoint, origin_of(checkpoint))

    metrics = evaluate(trainer, module, data, overlap, PredictionWriter(job.folder, settings.overlays))
    info = {"seconds": round(time.perf_counter() - started, 2), "ckpt_path": str(checkpoint), "split": split,
             "images": overlap.images, "trained_on": overlap.trained}  # fmt: skip
    headline = Headline(f"{overlap.prefix}/hmean", overlap.selected_on, overlap.note)
    finish(job, metrics, info, {"checkpoint": checkpoint}, headline)
