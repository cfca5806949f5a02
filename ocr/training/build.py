"""From config to objects."""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra
import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO
from omegaconf import DictConfig, ListConfig, OmegaConf

from ocr.data.datamodule import DetectionData
from ocr.errors import UserError, first_line, load_error
from ocr.models.batch_norms import with_batch_norms, without_batch_norms
from ocr.models.graph import GraphDetector
from ocr.models.onnx_run import OnnxDetector
from ocr.models.ppocr import PACKAGED, carried_pipeline, weights_file
from ocr.models.views import Views
from ocr.pipeline import Pipeline
from ocr.tracking.download import local_checkpoint
from ocr.tracking.run import Tracking
from ocr.tracking.start import job_facts
from ocr.training.checkpoints import WholeCheckpoints
from ocr.training.csv_log import CsvLog
from ocr.training.module import DetectionModule
from ocr.utils.machine import cpu_has_bf16
from ocr.utils.memory import keep_freed_memory

log = logging.getLogger(__name__)
NORM_CROPS = 24


def prepare_process() -> None:
    """Before any job: memory is kept, numbers below 1e-38 are zero, and Lightning's advertisements leave the log."""
    keep_freed_memory()
    # processors compute with such numbers a hundred times as slowly, and a GELU gives many; threads inherit this
    torch.set_flush_denormal(True)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Experiment logs directory.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen parts


def plain(node: Any) -> Any:
    """A config node as resolved plain types."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def build_data(config: DictConfig, pipeline: Pipeline) -> DetectionData:
    """The data module of ``config.data``."""
    make = hydra.utils.instantiate(config.data, _partial_=True, _convert_="all")
    return make(pipeline=pipeline, seed=config.seed)


def open_checkpoint(config: DictConfig, checkpoint: Path, whole: bool = False) -> tuple[DetectionModule, DetectionData]:
    """The detector of a checkpoint, as ``config`` changes it, and the data with its ``config.split`` read.

    With ``whole`` that is all of a folder without parts.
    """
    prepare_process()
    L.seed_everything(config.seed, workers=True, verbose=False)
    module = load_module(checkpoint, config, plain(config.pipeline))
    data = build_data(config, module.pipeline)
    return module, data.load(config.split, whole=whole)


def build_module(config: DictConfig) -> DetectionModule:
    """A module with a fresh network from ``config.model`` and ``config.optimizer``."""
    return DetectionModule(
        network=plain(config.model.network),
        pipeline=_with_normalisation_of_weights(config.model),
        loss=plain(config.model.loss),
        optimizer=plain(config.optimizer),
        compile_network=compiles(config.model.compile, config.trainer.accelerator),
    )


def put_back_batch_norms(module: DetectionModule, images: Iterable[torch.Tensor]) -> None:
    """A network from an ONNX file gets its batch norms back, with the statistics of uint8 images (B, H, W, 3)."""
    if not isinstance(module.network, GraphDetector):
        raise UserError("model.batch_norms=true is for networks that were read from ONNX files (model=ppocr_v4)")
    before = module.network
    module.take(with_batch_norms(before, (module.normalise(image) for image in images)))
    added = len(module.network.nodes) - len(before.nodes)
    log.info("batch norms put back behind %d convolutions", added)


def crops_for_norms(data: DetectionData) -> Iterator[torch.Tensor]:
    """:data:`NORM_CROPS` training crops from all over the set, uint8 (1, H, W, 3) each."""
    crops = data.train_set()
    places = np.linspace(0, len(crops) - 1, NORM_CROPS).astype(int).tolist()
    return (crops[(place, k)]["image"][None] for k, place in enumerate(places))


def compiles(wanted: bool | str, accelerator: str) -> bool:
    """Whether to train through ``torch.compile``; "auto" where a function of one addition can be compiled."""
    if wanted not in (True, False, "auto"):
        raise UserError(f"model.compile must be true, false or auto, got {wanted!r}")
    if wanted != "auto":
        return bool(wanted)
    device = "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    try:
        torch.compile(lambda x: x + 1)(torch.ones(8, device=device))
    except Exception as error:  # no C++ compiler, no Python headers, no Triton: as many kinds
        log.info("torch.compile does not work here (%s): training goes on without it", first_line(error))
        return False
    return True


def _with_normalisation_of_weights(model: DictConfig) -> dict[str, Any]:
    """The pipeline, with the mean, deviation and channels that the file of ``model.weights`` was trained with."""
    pipeline = plain(model.pipeline)
    carried = carried_pipeline(str(model.weights)) if model.get("weights") else None
    changes = {k: carried[k] for k in ("mean", "std", "channels") if carried[k] != pipeline[k]} if carried else {}
    if changes:
        log.info("input of the network as %s says: %s", model.weights, changes)
    return pipeline | changes


def load_module(
    path: str | Path, overrides: Mapping[str, Any] | None = None, foreign: Mapping[str, Any] | None = None
) -> DetectionModule:
    """The detector of a checkpoint or of an ONNX file; it needs nothing else.

    Args:
        path: a ``.ckpt`` that :mod:`runners.train` wrote, a run folder, of which the best one is taken, or an
            ``.onnx`` file, which onnxruntime runs.
        overrides: ``resize`` and ``postprocess`` of :class:`ocr.pipeline.Pipeline`, what is to change, None stays; and
            ``views``, settings of :class:`ocr.models.views.Views`, likewise.
        foreign: the pipeline of an ONNX file that carries none.

    Raises:
        UserError: no such file, or one that holds no detector.
    """
    path = checkpoint_path(path)
    carried: dict[str, Any] = {}
    if path.suffix == ".onnx":
        network, pipeline, state = _read_onnx_file(path, foreign)
    else:
        network, pipeline, state, carried = _read_checkpoint(path)
    if foreign and pipeline is not foreign:
        _warn_of_what_changes_nothing(path)
    for part in ("resize", "postprocess"):
        changes = dict((overrides or {}).get(part) or {})
        pipeline = {**pipeline, part: {**pipeline[part], **{k: v for k, v in changes.items() if v is not None}}}
    try:
        module = DetectionModule(network, pipeline)
        module.views = Views.of(carried, plain((overrides or {}).get("views")))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if state is not None:
        module.load_state_dict(state)
    if isinstance(module.network, GraphDetector):
        module.take(without_batch_norms(module.network))
    return module.eval()


def _warn_of_what_changes_nothing(path: Path) -> None:
    if ignored := [change for change in job_facts().overrides if change.lstrip("+").startswith("pipeline")]:
        what = ", ".join(ignored)
        log.warning("%s has a pipeline of its own: %s changes nothing, resize.* and postprocess.* would", path, what)


def _read_onnx_file(path: Path, foreign: Mapping[str, Any] | None) -> tuple[dict[str, Any], Mapping[str, Any], None]:
    pipeline = OnnxDetector(path).pipeline() or foreign
    if not pipeline:
        raise UserError(f"{path} carries no pipeline (resize, mean, thresholds): it was not exported by this project")
    return {"_target_": "ocr.models.onnx_run.OnnxDetector", "path": str(path)}, pipeline, None


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """Network, pipeline, weights and the views that the pipeline was tuned for."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what is not a checkpoint
        raise UserError(f"{path} is no checkpoint of this project: {load_error(error)}") from error
    parameters = checkpoint.get("hyper_parameters", {}) if isinstance(checkpoint, dict) else {}
    if not {"network", "pipeline"} <= set(parameters):
        raise UserError(f"{path} is no checkpoint of this project: it has no network and pipeline")
    network = parameters["network"]
    _check_targets(network, path)
    if "backbone" in network:
        network["backbone"]["pretrained"] = False  # the weights are here
    return network, parameters["pipeline"], checkpoint["state_dict"], checkpoint.get("views") or {}


def find_model(config: DictConfig) -> Path:
    """The file that ``ckpt_path`` means: a file, a run folder, ``wandb:<artifact>`` or the name of stock weights.

    Raises:
        UserError: there is none.
    """
    if str(config.ckpt_path) in PACKAGED:
        return weights_file(str(config.ckpt_path))
    place = Path(config.paths.output, "artifacts")
    logger = config.get("logger") or {}
    project, entity = logger.get("project_name", ""), logger.get("entity")
    return checkpoint_path(local_checkpoint(str(config.ckpt_path), place, project, entity))


def origin_of(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says about the W&B run that made it; empty when it says nothing."""
    if checkpoint.suffix == ".onnx":
        return {}
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # what is wrong with it is said by load_module
        return {}
    return dict(content.get("tracking") or {}) if isinstance(content, dict) else {}


def _check_targets(node: Any, path: Path) -> None:
    """A checkpoint names classes to build; one that names others than ours could run anything."""
    if isinstance(node, Mapping):
        target = node.get("_target_", "ocr.")
        if not str(target).startswith("ocr."):
            raise UserError(f"{path} wants to build {target!r}, which is not part of this project: it is not loaded")
        for value in node.values():
            _check_targets(value, path)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _check_targets(value, path)


def checkpoint_path(path: str | Path) -> Path:
    """A checkpoint file from its path or its run folder."""
    path = Path(path).expanduser()
    for candidate in (path / "checkpoints" / "best.ckpt", path / "checkpoints" / "last.ckpt"):
        if path.is_dir() and candidate.is_file():
            return candidate
    if not path.is_file():
        raise UserError(f"checkpoint not found: {path}" + (" has no checkpoints/best.ckpt" if path.is_dir() else ""))
    return path


def build_callbacks(config: DictConfig) -> list[L.Callback]:
    """The callbacks of ``config.callbacks``; an entry set to null is switched off."""
    nodes = (config.callbacks or {}).values()
    return [hydra.utils.instantiate(node) for node in nodes if node is not None]


def build_loggers(config: DictConfig, tracking: Tracking | None) -> list[Logger]:
    """Metrics go to ``csv/metrics.csv`` in the run folder and to W&B, if that is on."""
    csv = CsvLog(config.paths.run_dir, name="", version="csv")
    return [csv] if tracking is None else [csv, tracking.logger]


def device_name(trainer: L.Trainer) -> str:
    """The device that a trainer runs on: the card's name, or the processor's kind."""
    device = trainer.strategy.root_device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"


def build_trainer(config: DictConfig, callbacks: list[L.Callback], loggers: list[Logger]) -> L.Trainer:
    """The trainer of ``config.trainer``.

    Raises:
        UserError: the settings do not go together or the device is not there.
    """
    settings = {"precision": precision(config.trainer.precision, config.trainer.accelerator)}
    settings["plugins"] = _plugins(config.trainer.get("plugins"))
    try:
        return hydra.utils.instantiate(config.trainer, callbacks=callbacks, logger=loggers, **settings)
    except hydra.errors.InstantiationException as error:
        reason = error.__cause__
        if type(reason).__name__ == "MisconfigurationException":
            raise UserError(f"trainer: {reason}") from error
        raise


def _plugins(node: Any) -> list[Any]:
    """The plugins of ``trainer.plugins``, and ours that writes checkpoints unless one of them does."""
    made = hydra.utils.instantiate(node) or []
    plugins = [made] if not isinstance(made, (list, ListConfig)) else list(made)
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(WholeCheckpoints())
    return plugins


def precision(wanted: str | int, accelerator: str) -> str | int:
    """Lightning's name of the precision; "auto" for bf16 or fp16 mixed where the device has it, else float32."""
    if wanted != "auto":
        return wanted
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available() and cpu_has_bf16():
        return "bf16-mixed"
    return "32-true"
