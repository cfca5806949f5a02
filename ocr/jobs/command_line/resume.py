"""The command line of a resumed run, from the folder of the stopped one, which may be somebody else's.

It starts from the stopped run's own command line: its overrides come first, those of the new command after them, so
that ``resume=<run folder> trainer.max_epochs=40`` repeats nothing else. Its data is that of the stopped run, whatever
the defaults are by now.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ocr.data.storage.remote import is_remote
from ocr.errors import UserError, first_line
from ocr.jobs.command_line.compose import compose_job
from ocr.jobs.command_line.overrides import CONFIGS, key_of, text_of, value_of
from ocr.migrations import migrate_config, migrate_overrides
from ocr.tracking.secret_patterns import HIDDEN
from ocr.training.resume import find_checkpoint, say_once
from ocr.training.trust import TARGET, check_targets, network_classes, targets_in
from ocr.utils.config import plain_config

# what a setting of somebody else may look up: other settings, the environment, the time, Hydra's own settings
_LOOKUPS = re.compile(r"\$\{(?:[\w.\[\]@-]+|(?:oc\.env|now|hydra):[^${}]*)\}")
_OF_HYDRA = re.compile(r"(?:^|[@:])hydra(?:$|[./@:])")
MODEL = ("architecture", "neck", "head")  # with the backbone's name: what the weights depend on


def with_earlier_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line of a resumed run, with the stopped run's overrides and data in front.

    Returns:
        The same list when there is no ``resume=`` or the stopped run left no ``.hydra/overrides.yaml``; else the
        list with ``resume=`` pointing at the checkpoint itself.

    Raises:
        UserError: there is no checkpoint; the stopped run's settings would run what nobody named; or this command
            asks for another network.
    """
    given = {key_of(a): a for a in arguments if "=" in a and not a.startswith("-")}
    requested = value_of(given["resume"]) if "resume" in given else None
    if requested in (None, False, ""):
        return list(arguments)
    runs = Path(str(value_of(given.get("paths.output", "paths.output=runs"))))
    if "name" in given:
        runs = runs / str(value_of(given["name"]))
    elif requested is True and "experiment" in given:
        of_name = [given[key] for key in ("experiment", "data", "data.name") if key in given]
        runs = runs / str(compose_job("train", of_name).name)
    path = find_checkpoint(True if requested is True else str(requested), runs)
    assert path is not None
    mine = [a for a in arguments if not a.startswith("resume=")] + [f"resume={text_of(str(path))}"]
    stopped = StoppedRun.read(path.parent.parent)
    if stopped is None:
        return mine
    if stopped.hidden:
        say_once(f"not taken from the stopped run, for they hold secrets: {', '.join(stopped.hidden)}")
    overrides = [a for a in mine if not a.startswith("-")]
    earlier = stopped.overrides_before(overrides)
    compose = partial(compose_job, "train", with_hydra=True)
    before, now = compose(stopped.overrides), compose([*earlier, *overrides])
    kept = stopped.settings_to_keep(before, now)
    stopped.check_targets(compose([*earlier, *kept, *overrides]) if kept else now, overrides)
    stopped.check_model(before, now)
    return [*earlier, *kept, *mine]


@dataclass(frozen=True)
class StoppedRun:
    """The settings that Hydra wrote into a run folder.

    Attributes:
        overrides: its command line; those that hold secrets were hidden and are not among them.
        hidden: keys of these.
        config: composed, with its interpolations.
        cwd: the folder that it was started in.
    """

    folder: Path
    overrides: list[str]
    hidden: list[str]
    config: dict[str, Any]
    cwd: Path | None

    @classmethod
    def read(cls, folder: Path) -> StoppedRun | None:
        """None where Hydra left nothing.

        Raises:
            UserError: what is there cannot be read.
        """
        if not (folder / ".hydra" / "overrides.yaml").is_file():
            return None
        overrides = _read_yaml(folder / ".hydra" / "overrides.yaml", list)
        config = _read_yaml(folder / ".hydra" / "config.yaml", dict)
        try:
            texts, _ = migrate_overrides([str(o) for o in overrides])
            config = migrate_config(config)
        except UserError as error:
            raise UserError(f"resume={folder}: {error}") from error
        hidden = [key_of(o) for o in texts if HIDDEN in o]
        # what an earlier resume took over is in the config
        shown = [o for o in texts if HIDDEN not in o and not o.startswith("++data.")]
        runtime = (_read_yaml(folder / ".hydra" / "hydra.yaml", dict).get("hydra") or {}).get("runtime") or {}
        cwd = runtime.get("cwd")
        return cls(folder, shown, hidden, config, Path(cwd) if isinstance(cwd, str) else None)

    def overrides_before(self, mine: Sequence[str]) -> list[str]:
        """Overrides of the stopped run that this command does not give itself.

        Raises:
            UserError: one of them could run something that the user did not name.
        """
        given = {key_of(o) for o in mine} | {"trusted_targets"}
        earlier = [o for o in self.overrides if key_of(o) not in given]
        for override in earlier:
            self._check(override)
        return earlier

    def _check(self, override: str) -> None:
        key, _, value = override.partition("=")
        group = CONFIGS / key.lstrip("+~").partition("@")[0]
        outside = group.is_dir() and (
            ".." in PurePath(value.strip("'\"")).parts or value.strip("'\"[ ").startswith("/")
        )
        if _OF_HYDRA.search(key.lstrip("+~")) or outside or "${" in _LOOKUPS.sub("", override):
            raise UserError(
                f"resume={self.folder}: its override {override[:120]} could run anything; it is not taken over: give "
                f"{key}=<value> on this command line"
            )

    def check_targets(self, composed: DictConfig, mine: Sequence[str]) -> None:
        """Refuse settings of the resumed run that neither ``configs/``, this project nor this command line names."""
        allowed = config_targets() | set(_named_by(mine))
        plain = plain_config(OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]))
        if not set(map(str, targets_in(plain))) <= allowed:
            allowed |= network_classes()  # imports torch
        check_targets(plain, allowed, f"resume={self.folder}")

    def settings_to_keep(self, before: DictConfig, now: DictConfig) -> list[str]:
        """Overrides for the data that the stopped run had, where today's defaults are others.

        Args:
            before: composed today from the stopped run's overrides alone.
            now: the same with those of this command: what these change stays as they say.
        """
        old: Any = OmegaConf.to_container(before, resolve=False)
        new: Any = OmegaConf.to_container(now, resolve=False)
        data = self._from_its_folder(self.config.get("data") or {})
        for text in _texts(data):
            if "${" in _LOOKUPS.sub("", text):
                raise UserError(
                    f"resume={self.folder}: its data config has {text[:80]!r}; give data=... on this command"
                )
        kept = _differences(data, old["data"], new["data"], "data") if data else []
        weights = (self.config.get("model") or {}).get("weights")
        if (moved := self._absolute(weights)) != weights:
            old_weights, new_weights = ({"weights": (config["model"] or {}).get("weights")} for config in (old, new))
            kept += _differences({"weights": moved}, old_weights, new_weights, "model")
        return kept

    def check_model(self, before: DictConfig, now: DictConfig) -> None:
        """Refuse a command that asks for another network than the stopped run's."""
        one, other = map(_identity, (before, now))
        if one != other:
            changed = ", ".join(f"{key} {one[key]} -> {other[key]}" for key in one if one[key] != other[key])
            raise UserError(
                f"resume={self.folder}: this command asks for another network ({changed}), which cannot take that "
                "run's weights: leave it out, or train a new run without resume"
            )

    def _from_its_folder(self, data: Any) -> Any:
        """The data config with relative roots as seen from anywhere."""
        if isinstance(data, list):
            return [self._from_its_folder(part) for part in data]
        if not isinstance(data, dict):
            return data
        moved = {
            key: self._absolute(value) if key in ("root", "mix_root") else self._from_its_folder(value)
            for key, value in data.items()
        }
        if "train" in moved and moved.get("root") is None and any(_relative_files(moved)):
            moved["root"] = self._absolute(".")
        return moved

    def _absolute(self, path: Any) -> Any:
        if not isinstance(path, str) or self.cwd is None or "${" in path or path.startswith("~") or is_remote(path):
            return path
        moved = self.cwd / path
        return path if Path(path).is_absolute() or self.cwd == Path.cwd() or not moved.exists() else str(moved)


@functools.cache
def config_targets() -> frozenset[str]:
    """Every ``_target_`` that stands in ``configs/``."""
    targets: set[str] = set()
    for path in sorted(CONFIGS.rglob("*.yaml")):
        targets |= {t for t in targets_in(OmegaConf.to_container(OmegaConf.load(path))) if isinstance(t, str)}
    return frozenset(targets)


def _relative_files(node: Any) -> Iterator[str]:
    """Image folders of sources without a root of their own."""
    if isinstance(node, dict) and isinstance(node.get("images"), str) and not node.get("root"):
        yield node["images"]
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _relative_files(value)


def _identity(config: DictConfig) -> dict[str, Any]:
    model = plain_config(config.model)
    known = {key: model.get(key) for key in MODEL} | {"backbone": (model.get("backbone") or {}).get("name")}
    return {"model": config.hydra.runtime.choices.get("model"), **known}


def _named_by(overrides: Sequence[str]) -> Iterator[str]:
    """The targets that a command line names."""
    for override in overrides:
        key, value = key_of(override), value_of(override)
        if key == TARGET or key.endswith(f".{TARGET}"):
            yield str(value)
        if key == "trusted_targets" and isinstance(value, list):
            yield from map(str, value)
        yield from map(str, targets_in(value))


def _differences(stored: Mapping[str, Any], before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> list[str]:
    """Overrides from ``now`` to ``stored``, where ``before`` and ``now`` are the same."""
    overrides: list[str] = []
    for key in dict.fromkeys([*stored, *now]):
        full_key = f"{path}.{key}"
        if all(isinstance(node.get(key), Mapping) for node in (stored, before, now)):
            overrides += _differences(stored[key], before[key], now[key], full_key)
        elif before.get(key, now) != now.get(key, now) or stored.get(key, now) == now.get(key, now):
            continue  # this command's own, or the same
        elif key in stored and HIDDEN not in str(stored[key]):
            overrides.append(f"++{full_key}={text_of(stored[key])}")
        elif isinstance(now.get(key), list):
            overrides.append(f"++{full_key}=[]")  # a split that the stopped run did not have
    return overrides


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key)
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


def _read_yaml(path: Path, kind: type) -> Any:
    if not path.is_file():
        return kind()
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # YAML's and OmegaConf's own kinds
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error
    if not isinstance(content, kind):
        raise UserError(f"{path} is none of Hydra's: it holds a {type(content).__name__} instead of a {kind.__name__}")
    return content
