"""Build the objects of a job from its settings."""

from __future__ import annotations

import logging
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from ocr.data.datamodule import DetectionData
from ocr.errors import UserError, user_error
from ocr.jobs.command_line.hydra_job import invocation
from ocr.jobs.settings import DetectorSettings, ModelSettings, ModuleSettings, Node, TestSettings, TuneSettings
from ocr.metrics.collection import MetricCollection
from ocr.models.pretrained.ppocr import PACKAGED, pipeline_of_weights, weights_file
from ocr.pipeline import Pipeline
from ocr.tracking.run import Tracking
from ocr.tracking.tools.download import local_checkpoint
from ocr.training.csv_log import CsvLog
from ocr.training.loading import checkpoint_path, has_own_pipeline, load_module
from ocr.training.module import DetectionModule
from ocr.training.optim.parameters import OptimizerSettings
from ocr.training.optim.scaling import split_scaling
from ocr.training.process import prepare_process
from ocr.training.trainer import compiles
from ocr.utils.config import instantiate

log = logging.getLogger(__name__)


def build_module(settings: ModuleSettings) -> DetectionModule:
    """A module with a fresh network, ready to be trained."""
    model = settings.model
    arguments, scaling = split_scaling(settings.optimizer)
    return DetectionModule(
        network=model.network,
        pipeline=_pipeline_for_weights(model),
        loss=instantiate(model.loss),
        optimizer=OptimizerSettings(
            instantiate(arguments), instantiate(settings.schedule), settings.lr_multipliers, scaling
        ),
        metrics=MetricCollection(instantiate(settings.metrics)),
        compile_network=compiles(model.compile, settings.trainer["accelerator"]),
        replace_slow_layers=model.replace_slow_cpu_layers,
    )


def _pipeline_for_weights(model: ModelSettings) -> Node:
    """The pipeline, with the mean, deviation and channels that the file of ``model.weights`` was trained with."""
    stored = pipeline_of_weights(model.weights) if model.weights else None
    changes = {k: stored[k] for k in ("mean", "std", "channels") if stored[k] != model.pipeline[k]} if stored else {}
    if changes:
        log.info("input of the network as %s says: %s", model.weights, changes)
    return model.pipeline | changes


def build_data(data: Node, pipeline: Pipeline, seed: int) -> DetectionData:
    """The data module of ``data`` in the config."""
    return instantiate(data, _partial_=True)(pipeline=pipeline, seed=seed)


def build_callbacks(callbacks: Node) -> list[L.Callback]:
    """The callbacks of ``callbacks`` in the config; an entry set to null is switched off.

    Raises:
        UserError: an entry makes something that is no callback.
    """
    built = []
    for name, node in callbacks.items():
        if node is not None:
            try:
                callback = instantiate(node)
            except Exception as error:  # Hydra wraps what a constructor raises
                if type(error.__cause__).__name__ != "MisconfigurationException":
                    raise
                raise UserError(f"callbacks.{name}: {error.__cause__}") from error
            if not isinstance(callback, L.Callback):
                kind = type(callback).__name__
                raise UserError(f"callbacks.{name} makes a {kind}, which is no callback of Lightning (Callback)")
            built.append(callback)
    return built


def build_loggers(folder: Path, tracking: Tracking | None) -> list[Logger]:
    """Metrics go to ``csv/metrics.csv`` in the run folder and to W&B, if that is on."""
    csv = CsvLog(folder, name="", version="csv")
    return [csv] if tracking is None else [csv, tracking.logger]


def find_model(settings: DetectorSettings) -> Path:
    """The file that ``ckpt_path`` means: a file, a run folder, ``wandb:<artifact>`` or the name of stock weights.

    Raises:
        UserError: there is none.
    """
    if settings.ckpt_path in PACKAGED:
        return weights_file(settings.ckpt_path)
    folder, logger = Path(settings.paths.output, "artifacts"), settings.logger
    return checkpoint_path(local_checkpoint(settings.ckpt_path, folder, logger.project_name, logger.entity))


def open_detector(
    settings: TestSettings | TuneSettings, checkpoint: Path, whole: bool = False
) -> tuple[DetectionModule, DetectionData]:
    """A checkpoint's detector in a process made ready for it, and the split, read for the detector's pipeline.

    ``whole``: see :meth:`DetectionData.load`.
    """
    prepare_process()
    L.seed_everything(settings.seed, workers=True, verbose=False)
    module = load_detector(settings, checkpoint, settings.trainer["accelerator"])
    return module, build_data(settings.data, module.pipeline, settings.seed).load(settings.split, whole=whole)


def load_detector(settings: DetectorSettings, checkpoint: Path, accelerator: str) -> DetectionModule:
    """The detector of a checkpoint, as the command line changes it.

    onnxruntime runs an ONNX file on a CPU; for an NVIDIA card its network is converted to torch's, where it can be.
    """
    module = load_module(checkpoint, settings.overrides)
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        try:
            module = trainable(module, checkpoint)
        except Exception as error:  # Hydra wraps what a constructor raises
            if (fault := user_error(error)) is None:
                raise
            log.warning("%s: onnxruntime runs it, on the CPU", fault)
    ignored = [override for override in invocation().get("overrides", ()) if "fallback_pipeline" in override]
    if ignored and has_own_pipeline(checkpoint):
        log.warning("%s has a pipeline of its own: %s changes nothing, resize.* and postprocess.* would", checkpoint,
                    ", ".join(ignored))  # fmt: skip
    return module


def trainable(module: DetectionModule, source: Path) -> DetectionModule:
    """The module; for an ONNX file with the network converted to one that a checkpoint can hold."""
    if source.suffix != ".onnx":
        return module
    network = {"_target_": "ocr.models.pretrained.ppocr.pretrained_detector", "weights": str(source)}
    converted = DetectionModule(network, module.pipeline.to_dict())
    converted.tta = module.tta
    return converted.eval()
