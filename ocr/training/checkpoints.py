"""Writing of checkpoints, and callbacks that carry over, clean and upload them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ocr.errors import UserError
from ocr.tracking.run import Tracking
from ocr.tracking.secrets import Redactor
from ocr.utils.files import archive_fault, save_tensors


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file and renames it, so that the one before stays until it is whole.

    Lightning's own way writes to ``TMPDIR`` and moves, which on another file system is a copy that a kill cuts.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if "://" in str(path):  # s3://..., where a file appears when it is whole
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            save_tensors(checkpoint, path)


class CarryBest(L.Callback):
    """A resumed run starts with the stopped run's best checkpoint as its own.

    Lightning forgets the best score when the folder changes, so the first validation after a resume, however bad,
    would count as the best. A best checkpoint that is damaged is left behind.

    Args:
        folder: of the stopped run's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if not isinstance(callback, ModelCheckpoint) or state is None or callback.dirpath is None:
                continue
            name = Path(state["best_model_path"]).name
            old, new = self.folder / name, Path(callback.dirpath, name)
            if callback.monitor is None or not name or not old.is_file() or archive_fault(old):
                state |= dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), "")
                state |= {"dirpath": callback.dirpath, "best_model_score": None, "best_k_models": {}, "kth_value": None}
                continue
            if trainer.is_global_zero and not new.exists():
                new.parent.mkdir(parents=True, exist_ok=True)
                part = new.with_suffix(".part")
                shutil.copyfile(old, part)
                part.replace(new)
            score = state["best_model_score"]
            state |= {"dirpath": callback.dirpath, "best_model_path": str(new), "kth_best_model_path": str(new),
                      "best_k_models": {str(new): score}, "kth_value": score}  # fmt: skip


class KeepStart(L.Callback):
    """Saves the initial weights as the best checkpoint, until an epoch is better; without a validation they go again.

    Args:
        scores: of the initial weights, by the names that validation logs.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.scores = dict(scores)
        self._validated = False

    def _callbacks(self, trainer: L.Trainer) -> list[ModelCheckpoint]:
        callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        return [callback for callback in callbacks if callback.monitor in self.scores]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for callback in self._callbacks(trainer):
            scores = {name: torch.tensor(value) for name, value in self.scores.items()}
            score = scores[str(callback.monitor)].to(trainer.strategy.root_device)
            path = callback.format_checkpoint_name(scores)
            callback.best_model_path = callback.kth_best_model_path = path
            callback.best_model_score = callback.kth_value = score
            callback.best_k_models = {path: score}
            trainer.save_checkpoint(path, callback.save_weights_only)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated |= not trainer.sanity_checking

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for callback in self._callbacks(trainer) if not self._validated else ():
            if trainer.is_global_zero:
                Path(callback.best_model_path).unlink(missing_ok=True)
            callback.best_model_path = callback.kth_best_model_path = ""
            callback.best_model_score, callback.best_k_models = None, {}


class CheckpointRecords(L.Callback):
    """Checkpoints say which W&B run made them and what data they have seen, and hold no secrets.

    What is executed stays as it is: network and pipeline are built again from their description.

    Args:
        redactor: cleans the records.
        records: plain values and tensors by the key of the checkpoint that they are stored under.
    """

    def __init__(self, redactor: Redactor, records: Mapping[str, Any]) -> None:
        self.redactor, self.records = redactor, dict(records)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Raises :class:`UserError` where the description of the network could not be shown to others."""
        exposed = [f"model.{key}" for key in self.redactor.exposed(dict(pl_module.hparams))]
        if exposed:
            home = " or, with logger.private=true, a path in the home folder" if self.redactor.private else ""
            raise UserError(
                f"{', '.join(exposed)}: a password or token{home}, which every checkpoint would hold: give a file by a"
                " path relative to the working folder"
            )

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint.update(self.redactor.plain(self.records))
        states = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
                states[callback.state_key] = _without_folders(states[callback.state_key])


def _without_folders(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a :class:`ModelCheckpoint` with names of files only, which is what :class:`CarryBest` reads."""
    names = {k: Path(state[k]).name for k in ("best_model_path", "kth_best_model_path", "last_model_path")}
    best = {Path(path).name: score for path, score in state["best_k_models"].items()}
    return state | names | {"dirpath": "", "best_k_models": best}


class CheckpointArtifacts(L.Callback):
    """Uploads the run's checkpoints: best and last when the job ends, on request each new best one before that.

    Args:
        tracking: the W&B run.
        monitor: the metric that chooses the best.
        metadata: recorded with every version.
    """

    def __init__(self, tracking: Tracking, monitor: str, metadata: Mapping[str, Any]) -> None:
        self.run, self.artifacts = tracking.run, tracking.artifacts
        self.monitor, self.metadata = monitor, dict(metadata)
        self.each_best = tracking.job.logger.artifacts.checkpoints == "best" and tracking.artifacts.online
        self._sent: float | None = None
        self._newest: float | None = None  # score of last.ckpt; at the end the trainer has only that of the test
        self._trainer: L.Trainer | None = None
        tracking.at_end(self._upload)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._trainer = trainer

    def _checkpoints(self) -> dict[str, tuple[Path, float | None]]:
        """Alias to file and value of the monitored metric."""
        files: dict[str, tuple[Path, float | None]] = {}
        for callback in self._trainer.checkpoint_callbacks if self._trainer else ():
            if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
                score = callback.best_model_score if callback.monitor else self._newest
                alias = "best" if callback.monitor else "last"
                files[alias] = Path(callback.best_model_path), None if score is None else float(score)
        return files

    def _describe(self, score: float | None) -> dict[str, Any]:
        trainer = self._trainer
        assert trainer is not None
        run_fields = {"run_name": self.run.name, "metric": self.monitor, "score": score}
        return self.metadata | run_fields | {"epochs": trainer.current_epoch, "steps": trainer.global_step}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if (newest := trainer.callback_metrics.get(self.monitor)) is not None:
            self._newest = float(newest)
        if not self.each_best:
            return
        path, score = self._checkpoints().get("best", (None, None))
        if path is not None and score != self._sent and path.is_file():
            self._sent = score
            self.artifacts.checkpoint(path, ["best"], self._describe(score), final=False)

    def _upload(self) -> None:
        for alias, (path, score) in self._checkpoints().items():
            if path.is_file():
                self.artifacts.checkpoint(path, [alias], self._describe(score), final=True)
