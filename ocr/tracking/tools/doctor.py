"""The troubleshooting guide as a program: one check per line, each with its fix."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from ocr.errors import UserError, first_line
from ocr.tracking.credentials import ENV_FILES, MODES, EnvReport, key_fault, server_url, stored_key
from ocr.tracking.record import relative
from ocr.tracking.schema import check_logger
from ocr.tracking.secret_patterns import HIDDEN
from ocr.tracking.secrets import redactor_for

Level = Literal["ok", "warning", "fault"]
IGNORED = ("WANDB_DISABLED", "WANDB_USER", "WANDB_ENABLED")  # by wandb; the runners read them
MIN_FREE_GB = 2.0
SHARED_MEMORY, MIN_SHARED_MB = Path("/dev/shm"), 256  # noqa: S108  (asked how much is free)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at.
        level: ``ok``, ``warning`` or ``fault``.
        found: what was seen; never a secret.
        fix: what to do about it, empty when nothing.
    """

    check: str
    level: Level
    found: str
    fix: str = ""


def examine(config: Mapping[str, Any], environment: EnvReport, timeout: float = 5) -> Iterator[Finding]:
    """All checks, in the order in which a run needs the things.

    Args:
        config: the composed config of a training, plain and resolved.
        environment: where the variables came from.
        timeout: seconds to wait for the server, for each question.
    """
    redactor = redactor_for(config)
    for check in (
        lambda: _env_files(environment),
        lambda: _variables(environment),
        lambda: _config(config),
        lambda: _mode(config),
        _key,
        lambda: _server(config, timeout),
        lambda: _folders(config),
        _shared_memory,
        _unsynced,
        _versions,
        _gpu,
    ):
        try:
            findings = list(check())
        except Exception as error:  # a check that breaks is a finding, and the others still run
            findings = [Finding("doctor", "fault", f"a check broke: {type(error).__name__}: {first_line(error)}")]
        for finding in findings:
            yield Finding(finding.check, finding.level, redactor.text(finding.found), redactor.text(finding.fix))


def _env_files(environment: EnvReport) -> Iterator[Finding]:
    if environment.files:
        yield Finding("env files", "ok", "read, the first wins: " + ", ".join(map(relative, environment.files)))
    else:
        yield Finding("env files", "ok", f"none ({' or '.join(ENV_FILES)}): the environment alone counts")
    for path in environment.files:
        if path.stat().st_mode & 0o077 and "WANDB_API_KEY" in path.read_text(encoding="utf-8", errors="replace"):
            yield Finding("env files", "warning", f"others on this machine can read {relative(path)}",
                          f"chmod 600 {relative(path)}")  # fmt: skip


def _variables(environment: EnvReport) -> Iterator[Finding]:
    names = sorted(name for name in os.environ if name.startswith("WANDB_"))
    known = dict.fromkeys(names, "the environment") | {n: relative(p) for n, p in environment.sources.items()}
    for name in names:
        source = f"set by {known[name]}, value not shown"
        if name in environment.cleaned:
            yield Finding(name, "warning", f"{source}; white space or quotes around it were removed",
                          "write the bare value")  # fmt: skip
        elif name == "WANDB_MODE" and os.environ[name].lower() not in MODES:
            yield Finding(name, "fault", "not a mode", f"one of {', '.join(MODES)}")
        elif name == "WANDB_ENABLED" and "WANDB_ENABLED" not in environment.sources:
            yield Finding(name, "ok", f"{os.environ[name]} (from WANDB_ENABLED, WANDB_DISABLED or WANDB_MODE)")
        elif name in IGNORED:
            yield Finding(name, "ok", f"{source}; wandb itself ignores it, the runners read it")
        elif not _known(name):
            yield Finding(name, "warning", f"{source}; neither wandb nor the runners know it", "check its spelling")
        else:
            yield Finding(name, "ok", source)


def _known(name: str) -> bool:
    import wandb

    field = name.removeprefix("WANDB_").lower()
    fields = set(wandb.Settings.model_fields)
    extra = {"dir", "tags", "notes", "name", "run_group", "job_type", "data_dir", "cache_dir", "artifact_dir",
             "config_dir", "error_reporting", "service", "args", "program"}  # fmt: skip
    return field in fields | extra or f"run_{field}" in fields or field.startswith(("x_", "_"))


def _config(config: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        check_logger(config["logger"])
        yield Finding("logger config", "ok", "known settings, kinds and ranges")
    except UserError as error:
        yield Finding("logger config", "fault", str(error), "correct it on the command line or in configs/logger")
    left = sorted(_unresolved(config))
    if left:
        yield Finding("config serialises", "warning", f"{', '.join(left)} cannot be resolved and is recorded as text",
                      "see the interpolation behind it")  # fmt: skip
    else:
        yield Finding("config serialises", "ok", "resolved, plain types")


def _unresolved(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _unresolved(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for k, value in enumerate(node):
            yield from _unresolved(value, f"{path}[{k}]")
    elif isinstance(node, str) and "${" in node and "hydra:" not in node:
        yield path


def _mode_and_reason(config: Mapping[str, Any]) -> tuple[str, str]:
    """Mode of a run that started now, and why."""
    logger = config["logger"]
    if not logger["wandb"]["enabled"]:
        return "off", "logger.wandb.enabled is false (config, WANDB_ENABLED, WANDB_DISABLED or WANDB_MODE=disabled)"
    if logger["offline"]:
        return "offline", "logger.offline=true"
    if logger["offline"] is None and os.environ.get("WANDB_MODE", "").lower() in ("offline", "dryrun"):
        return "offline", "WANDB_MODE"
    if not stored_key():
        return "offline", "there is no API key"
    return "online", "there is an API key and nothing says otherwise"


def _mode(config: Mapping[str, Any]) -> Iterator[Finding]:
    mode, reason = _mode_and_reason(config)
    asked = mode in ("online", "off") or "key" not in reason
    yield Finding("mode", "ok" if asked else "warning", f"{mode}: {reason}",
                  "" if asked else "set WANDB_API_KEY in .env, or run: wandb login")  # fmt: skip


def _key() -> Iterator[Finding]:
    key = stored_key()
    if not key:
        yield Finding("API key", "warning", "none in the environment, .env.local, .env or ~/.netrc",
                      "copy it from your W&B settings page into .env; without one runs stay offline")  # fmt: skip
    elif fault := key_fault(key):
        yield Finding("API key", "fault", f"malformed: {fault}", "copy it again, the bare key on one line")
    else:
        yield Finding("API key", "ok", f"well-formed ({HIDDEN})")


def _server(config: Mapping[str, Any], timeout: float) -> Iterator[Finding]:
    import wandb  # only here: it reads the environment as it is imported

    from ocr.tracking.tools.sync import server_fault

    mode, _ = _mode_and_reason(config)
    if fault := server_fault(timeout):
        yield Finding("server", "fault" if mode == "online" else "warning", f"{server_url()} does not answer ({fault})",
                      "check network, proxy and WANDB_BASE_URL; logger.offline=true records on disk, make sync sends "
                      "later")  # fmt: skip
        return
    yield Finding("server", "ok", f"{server_url()} answers")
    key = stored_key()
    if not key or key_fault(key):
        return
    try:
        api = wandb.Api(timeout=max(1, int(timeout)), api_key=key)
        viewer = api.viewer
    except Exception as error:  # the client raises many kinds for a refused key
        yield Finding("API key", "fault", f"the server does not take it: {first_line(error)}", "wandb login --relogin")
        return
    logger = config["logger"]
    entity, project = logger["entity"] or viewer.entity, logger["project_name"]
    if entity not in {viewer.entity, viewer.username, *viewer.teams}:
        teams = ", ".join(sorted({viewer.entity, *viewer.teams}))
        yield Finding("entity", "fault", f"this key has no right to {entity}", f"WANDB_ENTITY: one of {teams}")
        return
    yield Finding("entity", "ok", str(entity))
    try:
        api.project(project, entity=entity).id  # noqa: B018
        yield Finding("project", "ok", f"{entity}/{project}")
    except Exception as error:  # the client raises many kinds
        said = first_line(error)
        if "not found" in said.lower() or "could not find" in said.lower() or isinstance(error, ValueError):
            yield Finding("project", "ok", f"{entity}/{project} does not exist yet; the first run makes it")
        else:
            yield Finding(
                "project", "fault", f"{entity}/{project}: {said}", "WANDB_PROJECT, or ask for the right to it"
            )


def _folders(config: Mapping[str, Any]) -> Iterator[Finding]:
    folders = {"output": Path(str(config["paths"]["output"]))}
    if os.environ.get("WANDB_DIR"):
        folders["WANDB_DIR"] = Path(os.environ["WANDB_DIR"])
    for name, folder in folders.items():
        existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            yield Finding(f"folder {name}", "fault", f"{relative(folder)} cannot be written ({error.strerror})",
                          "paths.output=<folder> or WANDB_DIR=<folder>")  # fmt: skip
            continue
        free = shutil.disk_usage(existing).free / 1e9
        low = free < MIN_FREE_GB
        yield Finding(f"folder {name}", "warning" if low else "ok", f"{relative(folder)} writable, {free:.1f} GB free",
                      "make clean-runs, or another paths.output" if low else "")  # fmt: skip


def _shared_memory() -> Iterator[Finding]:
    """Loader workers hand batches over through /dev/shm, of which a container has 64 MB unless told otherwise."""
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free / 1e6
        low = free < MIN_SHARED_MB
        yield Finding("shared memory", "warning" if low else "ok", f"{SHARED_MEMORY} has {free:.0f} MB free",
                      "docker run --shm-size=1g, or data.num_workers=0" if low else "")  # fmt: skip


def _unsynced() -> Iterator[Finding]:
    from ocr.tracking.tools.local_runs import find_runs, record_folders

    runs = find_runs(record_folders())
    waiting = [run for run in runs if not run.synced and not run.active]
    size = sum(run.freed() for run in waiting) / 1e6
    if waiting:
        yield Finding("unsynced runs", "warning", f"{len(waiting)} of {len(runs)} ({size:.1f} MB)", "make sync")
    else:
        yield Finding("unsynced runs", "ok", f"none of {len(runs)}")


def _versions() -> Iterator[Finding]:
    try:
        requirements = importlib.metadata.requires("receipt-text-detection") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("versions", "warning", "the project is not installed, so nothing is known", "make setup")
        return
    faults = []
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{requirement.name} {version} is not {requirement.specifier}")
    names = ("torch", "lightning", "wandb", "hydra-core")
    seen = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in names if not any(n in f for f in faults))
    yield Finding("versions", "fault" if faults else "ok", "; ".join(faults) or seen, "make setup" if faults else "")


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        yield Finding("GPU", "ok", ", ".join(cards))
    elif shutil.which("nvidia-smi"):
        yield Finding("GPU", "warning", "the machine has an NVIDIA driver, but torch sees no card",
                      "a torch build for the driver's CUDA version; nvidia-smi shows it")  # fmt: skip
    else:
        yield Finding("GPU", "ok", "none: training runs on the CPU")
