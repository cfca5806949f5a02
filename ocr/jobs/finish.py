"""The start and the end that jobs have in common: facts for the record; metrics, summary, results."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
import wandb

from ocr.data.datamodule import DetectionData
from ocr.drawing.plots import plot_breakdown
from ocr.jobs.results import Headline, print_results, scalars
from ocr.tracking.job import Job
from ocr.tracking.record import git_commit
from ocr.tracking.run import Tracking
from ocr.tracking.summary import finalize_run, log_table
from ocr.training.callbacks.predictions import PredictionWriter
from ocr.training.data_record import TrainingOverlap
from ocr.training.memory import explain_out_of_memory
from ocr.training.module import DetectionModule
from ocr.training.trainer import device_name, samples_per_step
from ocr.utils.files import write_atomic

log = logging.getLogger(__name__)
AUDIT_COLUMNS = ["split", "kind", "count", "example"]


def record(
    job: Job, module: DetectionModule, data: DetectionData, trainer: L.Trainer, tracking: Tracking | None,
    text_sizes: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Record facts of the built objects, in the run's config, the log and ``data_report.json``; on rank 0 only.

    ``text_sizes``: what :func:`ocr.audit.statistics.check_text_sizes` has found, for a job that trains.
    """
    if not trainer.is_global_zero:
        return
    reports = {split: report.to_dict() for split, report in data.reports.items() if report.counts}
    if reports:
        write_atomic(job.folder / "data_report.json", json.dumps(reports, indent=2, ensure_ascii=False))
    counts, fingerprint = data.counts(), data.fingerprint()
    parameters = sum(p.numel() for p in module.network.parameters())
    if tracking is not None:
        device = {"device": device_name(trainer), "devices": trainer.num_devices * trainer.num_nodes}
        counted = {"data_counts": counts, "data_fingerprint": fingerprint, "parameters": parameters}
        tracking.record(counted | device | {"precision": str(trainer.precision), "compiled": module.compiled})
        if text_sizes:
            tracking.record({"data_text": text_sizes})
        log_table(tracking.run, "data_audit", AUDIT_COLUMNS, _audit_rows(counts, reports, text_sizes or {}, job))
        if job.logger.artifacts.dataset:
            splits = {split: data.splits[split] for split in counts}
            name = job.config["data"]["name"]
            described = {"name": name, "fingerprint": fingerprint, "counts": counts, "splits": splits}
            tracking.artifacts.dataset(name, described, data.paths())
    for split, numbers in counts.items():
        log.info("%s: %s", split, ", ".join(f"{number} {name}" for name, number in numbers.items()))
    how = f"precision {trainer.precision}{', compiled' if module.compiled else ''}"
    if "train" in counts and not data.auto_batch_size:
        samples = samples_per_step(trainer, data.batch_size)
        how += f", {samples} samples per step"
        if tracking is not None:
            tracking.record({"samples_per_step": samples})
    log.info("network: %.2f M parameters, %s", parameters / 1e6, how)


def _audit_rows(
    counts: Mapping[str, Mapping[str, int]], reports: Mapping[str, Any], text_sizes: Mapping[str, Any], job: Job
) -> list[list[Any]]:
    rows: list[list[Any]] = [[split, *item, ""] for split, numbers in counts.items() for item in numbers.items()]
    if text_sizes:
        rows.append(["train", "text_too_small", text_sizes["too_small"], ""])
        rows += [["train", f"text_{kind}", count, ""] for kind, count in text_sizes["suspects"].items()]
    for split, report in reports.items():
        for kind, count in report["counts"].items():
            rows.append([split, kind, count, job.redactor.text(report["examples"][kind][0])])
    return rows


def evaluate(
    trainer: L.Trainer,
    module: DetectionModule,
    data: DetectionData,
    overlap: TrainingOverlap,
    writer: PredictionWriter | None = None,
) -> dict[str, float]:
    """Figures of a split under the prefix of its overlap; predictions and tables go where the writer writes."""
    prefix = module.test_prefix = overlap.prefix
    data.tested = overlap.split
    if writer is not None:
        trainer.callbacks.append(writer)  # type: ignore[attr-defined]
    started = time.perf_counter()
    with explain_out_of_memory(trainer, data):
        trainer.test(module, datamodule=data, verbose=False)
    metrics = scalars({k: v for k, v in trainer.callback_metrics.items() if k.startswith(f"{prefix}/")})
    if writer is not None:
        metrics[f"{prefix}/images_per_second"] = writer.images / (time.perf_counter() - started)
        if trainer.is_global_zero and module.tables.get(prefix):
            _save_tables(module.tables[prefix], writer.folder, prefix)
    return metrics


def finish(
    job: Job, metrics: dict[str, float], info: dict[str, Any], paths: dict[str, Any], headline: Headline
) -> None:
    """Write ``metrics.json``, settle the W&B run's summary and name, print the results; on the first rank only.

    ``metrics.json`` has the metrics under their logged keys, then the facts; what is not finite becomes null.
    """
    if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
        return
    prefixes = ("train", headline.key.split("/")[0])
    rates = [metrics[k] for prefix in prefixes if (k := f"{prefix}/images_per_second") in metrics]
    figure = {"headline": headline.key, "selected_on": headline.selected_on}
    info |= figure | {"images_per_second": round(rates[0], 2) if rates else None}
    info |= {"git_commit": git_commit(), "config_hash": job.config_hash, "overrides": list(job.overrides)}
    info |= {"threads": torch.get_num_threads()}  # on a CPU, sums differ in their last digits with the threads
    info |= job.sweep_record()
    content = {**metrics, **job.redactor.plain(info)}
    content = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
    paths["metrics"] = write_atomic(job.folder / "metrics.json", json.dumps(content, indent=2) + "\n")
    if (job.folder / "predictions.jsonl").is_file():
        paths["predictions"] = job.folder / "predictions.jsonl"
    paths["run folder"] = job.folder
    finalize_run(metrics, metric_keys=(headline.key, "val/hmean"))
    if wandb.run is not None:
        wandb.run.summary.update(figure)
    print_results(job.name, metrics | {"seconds": info["seconds"]}, paths, headline)


def _save_tables(tables: Mapping[str, Any], folder: Path, stage: str) -> None:
    """``<stage>_breakdown.json`` and ``.png``: the curve and the scores by size and shape; the picture also to W&B."""
    write_atomic(folder / f"{stage}_breakdown.json", json.dumps(tables, indent=1) + "\n")
    picture = plot_breakdown(tables, folder / f"{stage}_breakdown.png", f"{stage}, IoU 0.5")
    if wandb.run is not None:
        wandb.run.log({f"{stage}/breakdown": wandb.Image(str(picture))})
