"""The data record of a checkpoint: where its data lies, and which images it has seen.

``test``, ``tune`` and ``export`` take their data from here unless the command names another, and every figure is named
after what its images are to the checkpoint: what was trained or selected on is never called a test.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ocr.data.datamodule import DetectionData
from ocr.data.sources.build import SOURCE_KINDS, check_sources
from ocr.data.storage.remote import is_remote
from ocr.errors import UserError
from ocr.migrations import migrate_sources
from ocr.models.onnx.nodes import read_metadata
from ocr.training.loading import check_checkpoint, checkpoint_entries
from ocr.training.trust import TARGET

log = logging.getLogger(__name__)
KEY = "data"  # in a checkpoint, and in the metadata of an exported file
SPLITS = ("train", "val", "test")
SOURCE_KEYS = frozenset(SOURCE_KINDS) - {"split", "optional"}  # those are resolved before
PATHS = ("root", "images", "annotations", "ids", "fonts")


@dataclass(frozen=True)
class DataRecord:
    """The data of a training.

    Attributes:
        config: plain values: ``name``, ``root`` and the three splits, lists of sources as they were found.
        fingerprint: a digest per split.
        seen: identities of the images trained on (``train``) and of those that epoch and thresholds were chosen on
            (``val``), int64 (S,) each, see :mod:`ocr.data.index.identity`.
    """

    config: dict[str, Any]
    fingerprint: dict[str, str]
    seen: dict[str, np.ndarray]

    @classmethod
    def of(cls, data: DetectionData, name: str, private: bool) -> DataRecord:
        """The record of data; the splits of it that were read count as seen.

        Args:
            private: see :meth:`without_paths`.
        """
        root = data.root if private or data.root is None else _absolute(data.root)
        config: dict[str, Any] = {"name": name, "root": root}
        for split in SPLITS:
            config[split] = [_with_absolute_folders(spec) for spec in data.resolved(split)]
        seen = {}
        for use, splits in (("train", ("train", "mix")), ("val", ("val",))):
            hashes = [data.identities(split) for split in splits if split in data.sources]
            seen[use] = np.concatenate([np.zeros(0, np.int64), *hashes])
        record = cls(config, data.fingerprint(), seen)
        return record.without_paths() if private else record

    def with_seen(self, seen: Mapping[str, np.ndarray]) -> DataRecord:
        """The record with more images that were trained (``train``) or selected on (``val``)."""
        more = {split: np.union1d(self.seen[split], hashes) for split, hashes in seen.items()}
        return replace(self, seen=self.seen | more)

    def without_paths(self) -> DataRecord:
        """The record for a file that strangers get: without an absolute root, and splits that name such paths."""
        config = dict(self.config)
        if config["root"] is not None and _is_absolute(config["root"]):
            config["root"] = None
        for split in SPLITS:
            paths = [spec[key] for spec in _with_parts(config[split]) for key in PATHS if spec.get(key)]
            if any(map(_is_absolute, paths)):
                config[split] = []
        return replace(self, config=config)

    def to_checkpoint(self) -> dict[str, Any]:
        """Plain values and tensors."""
        seen = {split: torch.from_numpy(np.array(hashes)) for split, hashes in self.seen.items()}
        return {"config": self.config, "fingerprint": self.fingerprint, "seen": seen}

    def to_json(self) -> str:
        """Serialise for the metadata of a file."""
        seen = {split: base64.b64encode(hashes.astype("<i8").tobytes()).decode() for split, hashes in self.seen.items()}
        return json.dumps({"config": self.config, "fingerprint": self.fingerprint, "seen": seen})


def read_record(path: Path) -> DataRecord | None:
    """Read the record of a checkpoint or an exported file; None where there is none, or it cannot be read.

    Raises:
        UserError: there is one, and it holds other things than plain values of known keys.
    """
    try:
        onnx = path.suffix == ".onnx"
        plain = json.loads(read_metadata(path).get(KEY, "null")) if onnx else checkpoint_entries(path).get(KEY)
    except Exception:  # what is wrong with the file is said by load_module
        return None
    return None if plain is None else _checked(plain, path)


def _checked(plain: Any, path: Path) -> DataRecord:
    try:
        config = {key: migrate_sources(value) for key, value in plain["config"].items()}
        seen = {split: _hashes(plain["seen"][split]) for split in ("train", "val")}
        fingerprint = {str(split): str(digest) for split, digest in plain["fingerprint"].items()}
        text = json.dumps(config)  # of plain values alone
        sound = set(config) == {"name", "root", *SPLITS} and "${" not in text and f'"{TARGET}"' not in text
        sound = sound and isinstance(config["name"], str) and isinstance(config["root"], str | None)
        for split in SPLITS:
            check_sources(config[split], split)
            sound = sound and all(set(spec) <= SOURCE_KEYS for spec in _with_parts(config[split]))
    except (KeyError, TypeError, ValueError, AttributeError, UserError):
        sound = False
    if not sound:
        raise UserError(f"{path}: what it says of its data is not of known keys and plain values: it is not used")
    return DataRecord(config, fingerprint, seen)


def _hashes(stored: torch.Tensor | str) -> np.ndarray:
    if isinstance(stored, str):
        return np.frombuffer(base64.b64decode(stored), "<i8")
    return stored.numpy().astype(np.int64, casting="safe")


def _with_parts(sources: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Sources, and those that they are made of."""
    for spec in sources:
        yield spec
        yield from _with_parts(spec.get("of") or ())


def _with_absolute_folders(spec: Mapping[str, Any]) -> dict[str, Any]:
    absolute = {key: _absolute(spec[key]) for key in ("root", "fonts") if spec.get(key)}
    parts = {"of": [_with_absolute_folders(part) for part in spec["of"]]} if spec.get("of") else {}
    return {**spec, **absolute, **parts}


def _absolute(path: str) -> str:
    return path if is_remote(path) else str(Path(path).expanduser().resolve())


def _is_absolute(path: str) -> bool:
    return is_remote(path) or Path(path).expanduser().is_absolute()


def complete_data(
    data: Mapping[str, Any], split: str, checkpoint: Path, trusted: Collection[str] = ()
) -> dict[str, Any]:
    """The data config of a job on a checkpoint; what it leaves open (``data=checkpoint``) is that of the checkpoint.

    Args:
        data: the config's; nothing of it is open when it has ``train``.
        split: that the job reads.
        trusted: see :func:`ocr.training.loading.check_checkpoint`.

    Raises:
        UserError: the checkpoint does not say, its data has no such split, or its data does not lie where it lay.
    """
    if split not in SPLITS:
        raise UserError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if data["train"] is not None:
        return dict(data)
    record = read_record(checkpoint)
    if record is None and checkpoint.suffix != ".onnx":
        check_checkpoint(checkpoint, trusted)  # what is wrong with the file comes first
    stored = record.config if record else {}
    data = dict(data)
    own_root = data["root"] is not None
    for key in ("root", *SPLITS):
        if data[key] is None:
            data[key] = stored.get(key)
    if data[split] is None:
        raise UserError(f"{checkpoint} does not say what data it belongs to: add data=<set> data.root=<folder>")
    if not data[split]:
        other = "split=val for the images that its epoch was chosen on" if split == "test" else "another split=<name>"
        raise UserError(f"the data of {checkpoint} has no {split} split: add {other}, or data=<set> data.root=<folder>")
    needs_root = any("images" in spec and not spec.get("root") for spec in _with_parts(data[split]))
    root = data["root"]
    if needs_root and (root is None or not (is_remote(root) or Path(root).expanduser().is_dir())):
        where = "does not say where" if root is None else f"has it in {root}, which is not here"
        where = f"data.root={root} is no folder" if own_root else f"the checkpoint {where}"
        raise UserError(f"its {split} split is of the data {data['name']!r}, and {where}: add data.root=<folder>")
    log.info("data of the checkpoint: %s%s", data["name"], f" in {root}" if needs_root else "")
    return data


@dataclass(frozen=True)
class TrainingOverlap:
    """Number of a split's images that a checkpoint was trained on, and that it was selected on.

    Attributes:
        split: as it is called in the data config.
        images: how many there are.
        trained, selected: how many of them it was trained on; how many its epoch or thresholds were chosen on.
    """

    split: str
    images: int
    trained: int = 0
    selected: int = 0

    @classmethod
    def of(cls, split: str, identities: np.ndarray, record: DataRecord | None) -> TrainingOverlap:
        if record is None:
            return cls(split, len(identities))
        trained, selected = (int(np.isin(identities, record.seen[name]).sum()) for name in ("train", "val"))
        return cls(split, len(identities), trained, selected)

    @property
    def prefix(self) -> str:
        """Prefix of its figures' keys; ``test`` only where nothing was trained or selected on its images."""
        if self.trained:
            return "seen"
        return "val" if self.selected and self.split == "test" else self.split

    @property
    def selected_on(self) -> str | None:
        """The split of the training that the images are of; None for a test."""
        return "train" if self.trained else "val" if self.selected else None

    @property
    def note(self) -> str | None:
        """Remark for the reader of a figure; None for a test."""
        if self.trained:
            return f"{self.trained} of {self.images} image(s) were trained on: this is no test"
        if self.selected:
            return f"epoch or thresholds were chosen on {self.selected} of {self.images} image(s): this is no test"
        return None


def drop_seen_images(data: DetectionData, split: str, record: DataRecord | None) -> None:
    """Keep the images of a folder that was taken whole that the checkpoint was neither trained nor selected on.

    Where nothing is left of it, what it was not trained on; where nothing is left of that either, all.
    """
    if record is None or not data.whole_folder_used:
        return
    identities = data.identities(split)
    for known in (np.union1d(record.seen["train"], record.seen["val"]), record.seen["train"]):
        kept = int((~np.isin(identities, known)).sum())
        if kept == len(identities):
            return
        if kept:
            data.drop_images(split, known)
            log.info("%s: %d of %d images, those held out from the training of this checkpoint", split, kept,
                     len(identities))  # fmt: skip
            return
