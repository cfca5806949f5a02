"""Prediction as a job: text in pictures that have no labels."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning as L
from torch.utils.data import DataLoader

from ocr.data.datasets import EvalSet, collate_eval
from ocr.data.formats.writers import check_formats, write_formats
from ocr.data.loader_workers import worker_count
from ocr.data.samplers import ShardSampler
from ocr.data.sources.unlabelled import find_images, in_words
from ocr.errors import UserError
from ocr.jobs.build import load_detector
from ocr.jobs.results import print_results
from ocr.jobs.settings import PredictSettings
from ocr.training.callbacks.predictions import PredictionWriter
from ocr.training.callbacks.progress import Progress
from ocr.training.page_reader import PageReader
from ocr.training.process import prepare_process

log = logging.getLogger(__name__)
MAX_EXAMPLES = 3  # names, of each suffix, of what is not looked at


def predict(settings: PredictSettings, checkpoint: Path) -> None:
    """Write ``predictions.jsonl``, and pictures on request.

    Raises:
        UserError: no picture could be read.
    """
    prepare_process()
    module = load_detector(settings, checkpoint, settings.accelerator)
    module.page_reader = PageReader(settings.upright, settings.legible_height)
    output = Path(settings.output)
    check_formats(settings.formats)
    pictures = find_images(settings.source)
    others = in_words({kind: len(names) for kind, names in pictures.others.items()})
    if others:
        names = (", ".join(Path(name).name for name in names[:MAX_EXAMPLES]) for names in pictures.others.values())
        log.warning("not looked at: %s, e.g. %s", others, "; ".join(names))
    dataset = EvalSet([pictures], module.pipeline)
    loader = DataLoader(
        dataset,
        batch_size=settings.batch_size,
        sampler=ShardSampler(len(dataset), order=dataset.by_size() if settings.batch_size > 1 else None),
        num_workers=min(worker_count(settings.num_workers), len(dataset)),
        collate_fn=collate_eval,
    )
    writer = PredictionWriter(output, overlays=-1 if settings.overlays else 0)
    try:
        trainer = L.Trainer(
            accelerator=settings.accelerator, devices=1, logger=False, callbacks=[writer, Progress()],
            enable_checkpointing=False, enable_model_summary=False, inference_mode=True,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"accelerator: {error}") from error
    trainer.predict(module, loader, return_predictions=False)
    counts = {"images": writer.images, "text instances": writer.instances, "turned pages": writer.turned,
              "not read": len(pictures) - writer.images, "not looked at": others or 0,
              "noted": in_words(writer.notes.counts) or 0}  # fmt: skip
    paths = {"predictions": output / "predictions.jsonl"}
    if writer.images:
        paths |= write_formats(output / "predictions.jsonl", settings.formats, output)
        if settings.overlays:
            paths["pictures"] = output / "overlays"
    print_results("prediction", counts, paths)
    if not writer.images:
        raise UserError(
            f"source={settings.source}: none of {len(pictures)} image(s) could be read; the log has the reasons"
        )
