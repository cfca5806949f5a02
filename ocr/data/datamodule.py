"""Loaders for training, validation and test, made from the data config."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader

from ocr.data.datasets import EvalSet, TrainSet, collate_eval
from ocr.data.index.report import Report
from ocr.data.loader_workers import start_worker, worker_count
from ocr.data.samplers import EpochBatches, EpochRest, EpochSampler, ShardSampler, draws_per_epoch
from ocr.data.sources.build import Source, StoredSource, build_sources, check_sources, resolve_sources, source_root
from ocr.data.sources.joined import Sources
from ocr.data.sources.shards import ShardSource
from ocr.data.sources.subset import draw_subset
from ocr.data.storage.remote import below, is_remote
from ocr.data.targets.maps import TargetMaker
from ocr.data.transforms.random import RandomGeometry, RandomLight
from ocr.errors import UserError
from ocr.migrations import migrate_sources
from ocr.pipeline import Pipeline
from ocr.utils.typed import Auto

log = logging.getLogger(__name__)
PATHS = ("images", "annotations", "ids")
INTERPOLATED_KEYS = {
    "name", "format", *PATHS, "categories", "val_from", "test_from", "mix_root", "difficulty",
    "fonts", "lists", "part", "parts", "effects", "seen",
}  # fmt: skip


class DetectionData(L.LightningDataModule):
    """The data of a run. Settings that are not listed here are described in ``configs/data/default.yaml``.

    Args:
        pipeline: resize policy and normalisation.
        train, val, test: the splits, each a list of sources, see :func:`build_source`; None or empty for none.
        mix: sources that training sees beside those of ``train``.
        mix_ratio: their fraction of an epoch's samples, 0 <= mix_ratio < 1.
        root: folder or address that relative paths in the sources start from; None for the current folder.
        seed: of the order and of the random transforms.
        words: settings that only interpolations of the config use: ``name``, those of ``data=folder`` and ``mix``.

    Attributes:
        whole_folder_used: a split is all of a folder without parts, see :meth:`load`.
        tested: the split that a trainer's test reads.
        auto_batch_size: ``batch_size`` is still to be found.
        rest: of the epoch that a resumed training begins in.
        training_steps: of a resumed training whose steps have another size now; None for as many as its epochs have.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        train: Sequence[Mapping[str, Any]] | None,
        val: Sequence[Mapping[str, Any]] | None,
        test: Sequence[Mapping[str, Any]] | None,
        root: str | None,
        cache_gb: float,
        shuffle_window: int,
        batch_size: int | Auto,
        eval_batch_size: int,
        num_workers: int | str,
        strict: bool,
        geometry: RandomGeometry,
        light: RandomLight,
        targets: TargetMaker,
        train_fraction: float,
        train_draw: int,
        mix: Sequence[Mapping[str, Any]] = (),
        mix_ratio: float = 0.0,
        epoch_samples: int | None = None,
        seed: int = 0,
        **words: Any,
    ) -> None:
        super().__init__()
        if unknown := set(words) - INTERPOLATED_KEYS:
            raise UserError(f"the data config has no setting {', '.join(sorted(unknown))}")
        splits = {"train": train, "val": val, "test": test, "mix": [*mix] if mix_ratio else []}
        self.splits = {name: migrate_sources(sources) for name, sources in splits.items()}
        for name, sources in self.splits.items():
            check_sources(sources, f"data.{name}")
        if not cache_gb >= 0 or shuffle_window < 1:
            given = f"got {cache_gb} and {shuffle_window}"
            raise UserError(f"data.cache_gb must be at least 0, data.shuffle_window at least 1, {given}")
        self.pipeline, self.root = pipeline, root
        self.cache_gb, self.shuffle_window = float(cache_gb), int(shuffle_window)
        if not (batch_size == "auto" or (isinstance(batch_size, int) and batch_size >= 1)) or eval_batch_size < 1:
            raise UserError("data.batch_size and data.eval_batch_size must be at least 1, the first may be auto")
        self.auto_batch_size = batch_size == "auto"
        self.batch_size = 1 if batch_size == "auto" else int(batch_size)
        self.eval_batch_size = int(eval_batch_size)
        if not 0 <= mix_ratio < 1 or (mix_ratio and not mix):
            raise UserError(f"data.mix_ratio must lie in 0..1 (below 1) and needs sources in data.mix, got {mix_ratio}")
        if epoch_samples is not None and epoch_samples < 1:
            raise UserError(f"data.epoch_samples must be at least 1, or null, got {epoch_samples}")
        if not 0 < train_fraction <= 1 or train_draw < 0:
            given = f"got {train_fraction} and {train_draw}"
            raise UserError(f"data.train_fraction must lie in 0..1, above 0, data.train_draw be at least 0, {given}")
        self.mix_ratio, self.epoch_samples = float(mix_ratio), epoch_samples
        self.train_fraction, self.train_draw = float(train_fraction), int(train_draw)
        self.num_workers, self.train_workers = worker_count(num_workers), worker_count(num_workers, training=True)
        self.strict, self.seed = strict, seed
        self.geometry, self.light, self.targets = geometry, light, targets
        self.whole_folder_used = False
        self.tested = "test"
        self.rest: EpochRest | None = None
        self.training_steps: int | None = None
        self.sources: dict[str, list[Source]] = {}
        self.reports: dict[str, Report] = {}

    def load(self, *splits: str, whole: bool = False) -> DetectionData:
        """Read the labels of the named splits; a split with the same sources as another is read once.

        Args:
            splits: ``train``, ``val`` or ``test``.
            whole: take all of a folder without parts, whatever the split.

        Raises:
            UserError: a split is unknown, missing or has nothing to learn from.
        """
        if "train" in splits and self.splits["mix"]:
            splits = (*splits, "mix")
        for split in splits:
            if split in self.sources:
                continue
            specs = self.splits.get(split)
            resolved = resolve_sources(specs or (), self.root, whole, self.cache_gb)
            self.whole_folder_used |= whole and resolved != self.resolved(split)
            if not resolved:
                others = ", split=val for that of validation" if split == "test" else ""
                raise UserError(f"the data has no {split} split: data.{split}=[...] or data=<set> names one{others}")
            whole_splits = [s for s in self.sources if s != "train" or self.train_fraction == 1]
            twin = next((s for s in whole_splits if self.splits.get(s) == resolved), None)
            if resolved != specs and not twin:
                log.info("%s: found %s", split, "; ".join(_in_words(spec) for spec in resolved))
            self.splits[split] = specs = resolved
            if twin:
                self.sources[split], self.reports[split] = self.sources[twin], self.reports[twin]
            else:
                self.sources[split], self.reports[split] = build_sources(
                    list(specs), self.root, split, self.strict, self.cache_gb
                )
            if split == "train" and self.train_fraction < 1:
                self.sources[split] = draw_subset(self.sources[split], self.train_fraction, self.train_draw)
        return self

    def resolved(self, split: str) -> list[dict[str, Any]]:
        """Resolve the sources of a split without reading a label; none where there is no such split."""
        return resolve_sources(self.splits.get(split) or (), self.root, cache_gb=self.cache_gb)

    def identities(self, split: str) -> np.ndarray:
        """int64 (S,), see :meth:`ocr.data.sources.build.Source.identities`, of a split that was read."""
        return Sources(self.sources[split]).identities()

    def drop_images(self, split: str, known: np.ndarray) -> None:
        """Drop the images of a split, all of it from files, whose identities are among the known ones."""
        kept: list[Source] = []
        for source in self.sources[split]:
            assert isinstance(source, StoredSource)
            indices = np.flatnonzero(~np.isin(source.identities(), known)).tolist()
            if indices:
                kept.append(source.only(indices))
        self.sources[split] = kept

    def setup(self, stage: str) -> None:
        self.load(*{"fit": ("train", "val"), "validate": ("val",), "test": (self.tested,)}.get(stage, ()))

    def counts(self) -> dict[str, dict[str, int]]:
        """Images, instances and ignored instances of every split that was read."""
        return {split: Sources(sources).counts() for split, sources in self.sources.items()}

    def fingerprint(self) -> dict[str, str]:
        """A digest per split, equal for equal data wherever it lies."""
        return {split: "-".join(s.fingerprint() for s in sources) for split, sources in self.sources.items()}

    def paths(self) -> dict[str, Path | str]:
        """Folders and label files of the splits that were read, or their addresses, by their path in the config."""
        named: dict[str, Path | str] = {}
        specs = [spec for split in self.sources for spec in self.splits[split]]
        for spec in (part for whole in specs for part in whole.get("of") or [whole]):
            address = str(spec.get("root") or self.root)
            root = address if is_remote(address) else source_root(spec, self.root)
            label = f"{Path(root).resolve().name}/" if spec.get("root") else ""
            for key in (key for key in PATHS if spec.get(key)):
                path = below(root, spec[key]) if isinstance(root, str) else root / spec[key]
                named[f"{label}{spec[key]}"] = path
        return dict(sorted(named.items()))

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _settings(self, num_workers: int) -> dict[str, Any]:
        """Arguments of every loader."""
        return {
            "num_workers": num_workers,
            "persistent_workers": num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": start_worker,
        }

    def train_set(self) -> TrainSet:
        """Random crops of the training split, and of what is mixed in."""
        sources = [*self.sources["train"], *self.sources.get("mix", [])]
        return TrainSet(sources, self.pipeline, self.geometry, self.light, self.targets, self.strict)

    def samples_per_epoch(self) -> list[int]:
        """Samples that a training epoch draws from each source, those of ``mix`` last."""
        return draws_per_epoch(self.sources["train"], self.sources.get("mix", []), self.mix_ratio, self.epoch_samples)

    def train_dataloader(self) -> DataLoader[Any]:
        dataset, (rank, world_size) = self.train_set(), self._ranks()
        overfit = getattr(self.trainer, "overfit_batches", 0)
        if overfit:  # the same crops in each epoch, see TrainSet
            order = range(rank, len(dataset), world_size)
            plain = [[*order[k : k + self.batch_size]] for k in range(0, len(order), self.batch_size)]
            return DataLoader(dataset, batch_sampler=plain, **self._settings(self.train_workers))
        lengths = [s.runs() if isinstance(s, ShardSource) else len(s) for s in dataset.samples.sources]
        draws, window = self.samples_per_epoch(), self.shuffle_window
        sampler = EpochSampler(lengths, draws, self.seed, rank, world_size, self.rest, window)
        batches = EpochBatches(sampler, self.batch_size)
        return DataLoader(dataset, batch_sampler=batches, **self._settings(self.train_workers))

    def _eval_loader(self, split: str) -> DataLoader[Any]:
        dataset = EvalSet(self.sources[split], self.pipeline, self.strict)
        order = dataset.by_size() if self.eval_batch_size > 1 else None
        sampler = ShardSampler(len(dataset), *self._ranks(), order)
        return DataLoader(
            dataset,
            sampler=sampler,
            batch_size=self.eval_batch_size,
            collate_fn=collate_eval,
            **self._settings(self.num_workers),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._eval_loader(self.tested)


def _in_words(spec: Mapping[str, Any]) -> str:
    if spec.get("of"):
        return f"{spec['format']}: " + "; ".join(map(_in_words, spec["of"]))
    if not spec.get("annotations"):
        return str(spec["format"])
    part = f"hashes in {spec['hash_range']}" if spec.get("hash_range") else "all"
    part = f"those in {spec['ids']}" if spec.get("ids") else part
    return f"{spec['format']} labels in {spec['annotations']}, images in {spec['images']} ({part})"
