"""What must never be recorded: keys, tokens, passwords; home paths and names of people on request."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from omegaconf import OmegaConf

from ocr.tracking.record import plain_config

HIDDEN = "***"
_WORDS = r"(?:api|access|private|signing|encryption|ssh)[_-]?key|secret(?:[_-]?key)?|tokens?|pass(?:word|wd|phrase)|pwd"
_NAME = re.compile(rf"(?:^|[_.\-/])(?:{_WORDS}|credentials?|auth)(?:$|[_.\-])|api_?key|password|secret", re.IGNORECASE)
_IN_TEXT = re.compile(
    rf"""([+~]{{0,2}}[\w.@/\-]*?(?:{_WORDS}|credential|auth)[\w.\-]*)  # a name that may be secret
    (\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;&'"}}\])]+)""",
    re.VERBOSE | re.IGNORECASE,
)
_IN_URL = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_PATHS = ("PWD", "OLDPWD")  # working folders, not passwords
LEAST = 6  # shorter secrets are hidden where they stand alone: within other words they would be chance


def is_secret_name(name: str) -> bool:
    """Whether a setting or variable of this name holds a secret.

    >>> [is_secret_name(n) for n in ("WANDB_API_KEY", "db.password", "hf_token", "monitor", "max_epochs", "keys")]
    [True, True, True, False, False, False]
    """
    return _NAME.search(name) is not None


class Redactor:
    """Replaces secrets in texts and plain data by ``***``.

    A value is secret when the environment or the config holds it under a secret name, wherever else it turns up; so
    is what follows ``<secret name>=`` and the password of a URL.

    Args:
        environment: variables, for instance ``os.environ``.
        private: also replace the home folder by ``~``, the login and the host name.
    """

    def __init__(self, environment: Mapping[str, str], private: bool = False) -> None:
        self._secrets: set[str] = set()
        self.learn_values(v for name, v in environment.items() if is_secret_name(name) and name not in _PATHS)
        self.private = private
        self._homes = _home_patterns(environment) if private else []
        self._names = _name_patterns(environment) if private else []

    def learn_values(self, values: Iterable[str]) -> None:
        """Hide these from now on."""
        for value in values:
            for shape in (value, value.strip(), value.strip().strip("'\""), quote(value, safe="")):
                if len(shape) > 2 and shape.lower() not in ("null", "none", "true", "false", HIDDEN):
                    self._secrets.add(shape)
        self._long = sorted((s for s in self._secrets if len(s) >= LEAST), key=len, reverse=True)

    def learn(self, data: Any) -> None:
        """Hide the values that stand under secret names in nested plain data."""
        if isinstance(data, Mapping):
            for key, value in data.items():
                if isinstance(value, str) and is_secret_name(str(key)):
                    self.learn_values([value])
                else:
                    self.learn(value)
        elif isinstance(data, (list, tuple)):
            for value in data:
                self.learn(value)

    def text(self, text: str) -> str:
        """The text without secrets.

        >>> Redactor({"HF_TOKEN": "hunter22"}).text("login hunter22 at https://ann:pw@host, +model.api_key='x y'")
        'login *** at https://***@host, +model.api_key=***'
        """
        text = self._key(text)
        for pattern, shown in self._names:
            text = pattern.sub(shown, text)
        return text

    def _key(self, text: str) -> str:
        """Keys are words of ours, whatever people are called; but some are paths."""
        if text in self._secrets:
            return HIDDEN
        for pattern, shown in self._homes:
            text = pattern.sub(shown, text)
        for secret in self._long:
            text = text.replace(secret, HIDDEN)
        text = _IN_URL.sub(HIDDEN, text)
        return _IN_TEXT.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret_name(m[1]) else m[0], text)

    def plain(self, data: Any) -> Any:
        """Nested plain data without secrets, in keys as in values; numbers and tensors stay."""
        if isinstance(data, str):
            return self.text(data)
        if isinstance(data, Mapping):
            return {
                self._key(key) if isinstance(key, str) else key: HIDDEN
                if isinstance(key, str) and is_secret_name(key) and isinstance(value, str) and value
                else self.plain(value)
                for key, value in data.items()
            }
        if type(data) in (list, tuple):
            return type(data)(self.plain(value) for value in data)
        return data

    def clean_yaml(self, path: Path) -> None:
        """Rewrite a YAML file of settings without secrets, if it has any."""
        node = OmegaConf.load(path)
        before = OmegaConf.to_container(node, resolve=False)
        after = self.plain(before)
        if after != before:
            OmegaConf.save(OmegaConf.create(after), path)

    def clean_text(self, path: Path) -> None:
        """Rewrite a text file without secrets, if it has any."""
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        after = self.text(before)
        if after != before:
            path.write_text(after, encoding="utf-8", errors="surrogateescape")

    def guard_logging(self) -> None:
        """From now on the handlers of the root logger write lines without secrets, tracebacks included."""
        for handler in logging.getLogger().handlers:
            formatter = handler.formatter or logging.Formatter()
            inner = formatter.inner if isinstance(formatter, _RedactingFormatter) else formatter
            handler.setFormatter(_RedactingFormatter(inner, self))


class _RedactingFormatter(logging.Formatter):
    def __init__(self, inner: logging.Formatter, redactor: Redactor) -> None:
        super().__init__()
        self.inner, self._redactor = inner, redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(self.inner.format(record))


def redactor_for(config: Any, private: bool | None = None) -> Redactor:
    """A redactor that knows the environment's secrets and those of a composed config.

    Args:
        config: a :class:`DictConfig`; its ``logger.private`` decides unless ``private`` does.
        private: hide home paths and names.
    """
    if private is None:
        private = bool(OmegaConf.select(config, "logger.private", default=False))
    redactor = Redactor(os.environ, private)
    redactor.learn(plain_config(config))
    return redactor


def _home_patterns(environment: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """The home folder, and what stands in its stead."""
    homes = {os.path.expanduser("~"), environment.get("HOME", ""), os.path.realpath(os.path.expanduser("~"))}
    longest_first = sorted(homes, key=len, reverse=True)
    return [(re.compile(re.escape(h.rstrip("/")) + r"(?![\w.-])"), "~") for h in longest_first if len(h) > 2]


def _name_patterns(environment: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """The login and the host name, and what stands in their stead."""
    names = {environment.get(n, "") for n in ("USER", "LOGNAME", "USERNAME")}
    with contextlib.suppress(OSError, KeyError):
        names.add(getpass.getuser())
    names.discard("root")  # names nobody, and is a word of the config
    shown = {name: "user" for name in names if len(name) > 2} | {socket.gethostname(): "host"}
    return [(re.compile(rf"(?<![A-Za-z0-9]){re.escape(n)}(?![A-Za-z0-9])"), word) for n, word in shown.items()]
