"""Checkpoints and data sets as W&B artifacts, staged in the run's own folder.

W&B drops an artifact silently when it was logged while the server was away, or when its file has moved by the time of
a sync. So every artifact is first described and its files linked or copied below ``staged/`` of the run's W&B folder
(``artifacts.json``); :mod:`ocr.tracking.tools.sync` sends what the server has not got. Everything that may wait for the
network happens on one thread of its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

from ocr.errors import UserError, first_line
from ocr.tracking.ending import abandoned
from ocr.tracking.record import relative
from ocr.tracking.secrets import Redactor
from ocr.utils.files import copy_atomic, write_atomic

log = logging.getLogger(__name__)
STAGED = "staged"
MANIFEST = "artifacts.json"
MAX_REFERENCES = 10_000  # files of a folder that are listed one by one


@dataclass
class StagedArtifact:
    """An artifact as it lies in a run's folder.

    Attributes:
        collection: name without version.
        type: ``model`` or ``dataset``.
        files: name in the artifact to path below the staging folder.
        references: name in the artifact to W&B's entry for it: ``ref``, ``digest``, ``size``; kept whole, so that the
            same artifact can be made where the files are not.
        used: the run used it; else the run made it.
        digest: W&B's digest of the content.
        uploaded: the server has confirmed it.
    """

    collection: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    files: dict[str, str]
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    used: bool = False
    digest: str = ""
    uploaded: bool = False

    def build(self, folder: Path) -> wandb.Artifact:
        """The client's object; ``folder`` is the staging folder."""
        artifact = wandb.Artifact(self.collection, self.type, metadata=self.metadata)
        for name, path in self.files.items():
            artifact.add_file(relative(folder / path), name=name, policy="immutable", skip_cache=True)
        for name, entry in self.references.items():
            artifact.manifest.add_entry(ArtifactManifestEntry(path=name, **entry))  # type: ignore[arg-type]
        self.digest = artifact.digest
        return artifact

    def log_to(self, run: wandb.Run, folder: Path) -> wandb.Artifact:
        """Hand it to a run, as made or as used."""
        artifact = self.build(folder)
        if not self.used:
            return run.log_artifact(artifact, aliases=list(self.aliases))
        # use_artifact() waits for the server and refuses offline runs; this is what it calls, without the wait
        return run._log_artifact(artifact, aliases=list(self.aliases), is_user_created=True, use_after_commit=True)


def read_staged(folder: Path) -> list[StagedArtifact]:
    """The artifacts of a run's W&B folder.

    Raises:
        UserError: the list is damaged.
    """
    path = folder / STAGED / MANIFEST
    if not path.is_file():
        return []
    try:
        return [StagedArtifact(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({first_line(error)}): without this file the metrics are sent, the artifacts are not"
        ) from error


def write_staged(folder: Path, staged: list[StagedArtifact]) -> None:
    """Replace the list of a run's artifacts."""
    write_atomic(folder / STAGED / MANIFEST, json.dumps([asdict(entry) for entry in staged], indent=1) + "\n")


class Artifacts:
    """The artifacts of a run in progress.

    Args:
        run: in progress.
        folder: the run's W&B folder.
        redactor: cleans metadata.
        keep: superseded versions of the run's checkpoints that stay on the server.
    """

    def __init__(self, run: wandb.Run, folder: Path, redactor: Redactor, keep: int = 0) -> None:
        self.run, self.folder, self.redactor, self.keep = run, folder, redactor, keep
        self.online = not run.offline
        self.collection = f"model-{run.id}"  # of this run's checkpoints
        self.staged: list[StagedArtifact] = []
        self._objects: list[tuple[StagedArtifact, wandb.Artifact]] = []
        self._writing = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "artifacts")
        self._tasks: list[Future[None]] = []

    def checkpoint(self, path: Path, aliases: list[str], metadata: Mapping[str, Any], final: bool) -> None:
        """A checkpoint that this run made.

        Args:
            path: the file.
            aliases: ``best`` or ``last``.
            metadata: score, epoch, config hash, commit.
            final: nobody writes to the file any more: it is linked, not copied.
        """
        clean = self.redactor.plain(dict(metadata))
        self._add(StagedArtifact(self.collection, "model", aliases, clean, self._stage(path, link=final)))

    def use_checkpoint(self, path: Path, origin: Mapping[str, Any]) -> None:
        """The checkpoint that this run tests, so that the lineage is drawn.

        Equal content is one version on the server: with the file that training logged, this is a link to it.
        """
        name = self.redactor.text(path.parent.parent.name or path.stem)
        collection = origin.get("collection") or f"model-{safe_name(name)}"
        aliases = [path.stem] if origin.get("collection") and path.stem in ("best", "last") else []
        self._add(StagedArtifact(str(collection), "model", aliases, {}, self._stage(path, link=True), used=True))

    def dataset(self, name: str, description: Mapping[str, Any], paths: Mapping[str, Path | str]) -> None:
        """The data of this run: its fingerprint, and references to its files.

        Args:
            name: of the set.
            description: fingerprint, counts, sources; written into the artifact, so that other data is another version.
            paths: name in the artifact to file, folder or address; left out when private or too large a folder.
        """
        references: dict[str, dict[str, Any]] = {}
        description = dict(description)
        for label, path in paths.items():
            count = _count(path) if isinstance(path, Path) else 1
            if self.redactor.private or count > MAX_REFERENCES or (isinstance(path, Path) and not path.exists()):
                description.setdefault("not_listed", {})[label] = count
            else:
                references |= _reference_entries(label, path)
        target = self.folder / STAGED / "dataset.json"
        clean = self.redactor.plain(description)
        write_atomic(target, json.dumps(clean, indent=1, sort_keys=True, default=str) + "\n")
        collection = f"data-{safe_name(self.redactor.text(name))}"
        files, references = {target.name: target.name}, self.redactor.plain(references)
        self._add(StagedArtifact(collection, "dataset", [], clean, files, references, used=True))

    def _stage(self, path: Path, link: bool) -> dict[str, str]:
        """Link a file into the staging folder where that is possible and asked for, else copy it."""
        name = f"{len(self.staged)}_{path.name}"
        target = self.folder / STAGED / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            try:
                os.link(path, target)
            except OSError:  # another file system
                link = False
        if not link:
            copy_atomic(path, target)
        return {path.name: name}

    def _add(self, entry: StagedArtifact) -> None:
        self.staged.append(entry)
        if self.online:
            self._tasks.append(self._thread.submit(self._log, entry))
        else:
            self._log(entry)

    def _log(self, entry: StagedArtifact) -> None:
        self._objects.append((entry, entry.log_to(self.run, self.folder / STAGED)))
        self._write()

    def _write(self) -> None:
        with self._writing:
            write_staged(self.folder, self.staged)

    def close(self, seconds: float) -> list[str]:
        """Wait at most that long for the uploads, drop superseded versions, write the list.

        Returns:
            The artifacts that the server has not confirmed, in words.
        """
        if not self.staged or not self.online:
            return []
        self._write()
        self._tasks.append(self._thread.submit(self._confirm, time.monotonic() + seconds))
        self._thread.shutdown(wait=False)
        done, hanging = wait(self._tasks, seconds)
        if hanging:
            abandoned.set()
        for error in filter(None, (task.exception() for task in done)):
            log.warning("W&B: an artifact was not sent: %s", self.redactor.text(first_line(error)))
        self._write()
        return [f"{e.collection}:{'/'.join(e.aliases) or 'latest'}" for e in self.staged if not e.uploaded]

    def _confirm(self, deadline: float) -> None:
        for entry, artifact in self._objects:
            artifact.wait(timeout=max(1, int(deadline - time.monotonic())))
            entry.uploaded = True
        if any(not e.used for e in self.staged):
            _prune(self.run, self.collection, self.keep)


def _prune(run: wandb.Run, collection: str, keep: int) -> None:
    """Delete versions of a run's checkpoints that have neither ``best`` nor ``last`` any more."""
    api = wandb.Api(overrides={"entity": run.entity, "project": run.project})
    versions = list(api.artifacts("model", f"{run.entity}/{run.project}/{collection}"))
    superseded = [v for v in versions if not {"best", "last"} & set(v.aliases)]
    superseded.sort(key=lambda v: int(v.version.removeprefix("v")), reverse=True)
    for version in superseded[keep:]:
        version.delete(delete_aliases=True)


def _reference_entries(label: str, path: Path | str) -> dict[str, dict[str, Any]]:
    """W&B's reference entries for the files at a path: their location; the fingerprint covers their content."""
    if isinstance(path, str):
        return {_inside(label): {"ref": path, "digest": path, "size": None}}
    draft = wandb.Artifact("draft", "dataset")
    draft.add_reference(path.resolve().as_uri(), name=_inside(label), checksum=False, max_objects=MAX_REFERENCES)
    entries = draft.manifest.entries.items()
    return {name: {"ref": str(entry.ref), "digest": str(entry.digest), "size": entry.size} for name, entry in entries}


def _inside(label: str) -> str:
    """A path that W&B takes as one inside an artifact: absolute ones and those with ``..`` it refuses."""
    parts = ["up" if part == ".." else part for part in re.split(r"[/\\]+", label) if part]
    return "/".join(part.rstrip(":") for part in parts) or "."


def _count(path: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(path)) if path.is_dir() else 1


def safe_name(name: str) -> str:
    """Letters, digits, ``-``, ``_`` and ``.`` are what W&B takes."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:120] or "unnamed"
