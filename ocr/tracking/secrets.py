"""Redaction of keys, tokens and passwords; of home paths and people's names on request."""

from __future__ import annotations

import contextlib
import functools
import getpass
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ocr.tracking.record import ROOT
from ocr.tracking.secret_patterns import (
    HARMLESS,
    HIDDEN,
    encodings_of,
    hidden,
    holds_login,
    is_harmless,
    is_secret_name,
    secret_spans,
    secret_values,
)

MIN_LENGTH = 6  # shorter secrets are hidden where they stand alone: within other words they would be chance
_PATHS = ("PWD", "OLDPWD")  # working folders, not passwords
_NOBODY = ("root", "ocr")  # logins that name nobody, and are words of the program


class Redactor:
    """Replaces secrets in texts and plain data by ``***``.

    A value is secret when the environment or the config holds it under a secret name, wherever else it turns up, also
    changed into a name or quoted; so is what follows ``<secret name>=`` or ``Bearer``, and the password of a URL.

    Args:
        environment: variables, for instance ``os.environ``.
        private: also replace the home folder by ``~``, the login and the host name.
    """

    def __init__(self, environment: Mapping[str, str], private: bool = False) -> None:
        self._secrets: set[str] = set()
        self._long: list[str] = []
        self.learn({name: value for name, value in environment.items() if name not in _PATHS})
        self.private = private
        self._homes = _home_patterns(environment) if private else []
        self._names = _name_patterns(environment) if private else []
        self._home_setting = "${oc.env:HOME}" if environment.get("HOME") else HIDDEN

    def learn_values(self, values: Iterable[str]) -> None:
        """Hide these from now on."""
        shapes = (shape for value in values for shape in encodings_of(value))
        self._secrets |= {shape for shape in shapes if len(shape) > 2 and shape.lower() not in HARMLESS}
        self._long = sorted((s for s in self._secrets if len(s) >= MIN_LENGTH), key=len, reverse=True)

    def learn(self, data: Any) -> None:
        """Hide the values that stand under secret names, in URLs and in headers in nested plain data."""
        self.learn_values(set(secret_values(data)))

    def learn_overrides(self, overrides: Sequence[str]) -> None:
        """Hide the values that a command line gives to secret names, whatever brackets and commas are around them."""
        for name, value in (o.split("=", 1) for o in overrides if "=" in o):
            if is_secret_name(name) and not is_harmless(value, name):
                self.learn_values([value, *re.findall(r"""[^\s,'"\[\]{}()]+""", value)])
        self.learn(list(overrides))

    def text(self, text: str) -> str:
        """The text without secrets.

        >>> Redactor({"HF_TOKEN": "hunter22"}).text("login hunter22 at https://ann:pw@host, +model.api_key='x y'")
        'login *** at https://***@host, +model.api_key=***'
        >>> Redactor({}).text("Authorization: Bearer abc.def and design=1, max_tokens=5, ${token:}")
        'Authorization: Bearer *** and design=1, max_tokens=5, ${token:}'
        """
        text = self._key(text)
        for pattern, shown in self._names:
            text = pattern.sub(shown, text)
        return text

    def _key(self, text: str) -> str:
        """Keys are words of ours, whatever people are called; but some are paths."""
        text = self._without_secrets(text)
        for pattern in self._homes:
            text = pattern.sub("~", text)
        return text

    def _setting(self, text: str) -> str:
        """A setting that a resumed run may take as it is, or leave out for the ``***`` in it."""
        text = self._without_secrets(text)
        for pattern in self._homes:
            text = pattern.sub(lambda _: self._home_setting, text)
        for pattern, _ in self._names:
            text = pattern.sub(lambda m: m[0] if m[0] in _words_of_configs() else HIDDEN, text)
        return text

    def _without_secrets(self, text: str) -> str:
        if text in self._secrets:
            return HIDDEN
        for secret in self._long:
            text = text.replace(secret, HIDDEN)
        pieces, end = [], 0
        for start, stop in sorted(secret_spans(text)):
            if start >= end:
                pieces += [text[end:start], HIDDEN]
                end = stop
        return "".join([*pieces, text[end:]])

    def plain(self, data: Any) -> Any:
        """Nested plain data without secrets, in keys as in values; tensors stay, and numbers under other names."""
        return self._walk(data, self.text)

    def _walk(self, data: Any, clean: Callable[[str], str]) -> Any:
        if isinstance(data, str):
            return clean(data)
        if isinstance(data, Mapping):
            return {
                self._key(key) if isinstance(key, str) else key: hidden(value, key)
                if isinstance(key, str) and is_secret_name(key)
                else self._walk(value, clean)
                for key, value in data.items()
            }
        if type(data) in (list, tuple):
            return type(data)(self._walk(value, clean) for value in data)
        return data

    def exposed(self, data: Any, path: str = "") -> Iterator[str]:
        """Names of settings that must stay as they are, and hold a password or, on request, the home folder.

        By what is around the value only: a word of the settings may be somebody's password.
        """
        if isinstance(data, Mapping):
            for key, value in data.items():
                full_key = f"{path}.{key}".lstrip(".")
                if is_secret_name(str(key)) and hidden(value, str(key)) != value:
                    yield full_key
                else:
                    yield from self.exposed(value, full_key)
        elif isinstance(data, (list, tuple)):
            for k, value in enumerate(data):
                yield from self.exposed(value, f"{path}[{k}]")
        elif isinstance(data, str) and (holds_login(data) or any(home.search(data) for home in self._homes)):
            yield path

    def settings(self, data: Any) -> Any:
        """:meth:`plain` for settings that a resume executes.

        With ``private`` the home folder becomes ``${oc.env:HOME}``, which means the same, and other names become
        ``***``, which a resume leaves out and says so.
        """
        return self._walk(data, self._setting)

    def guard_logging(self) -> None:
        """Make the root logger's handlers write lines without secrets, tracebacks included."""
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


def redactor_for(config: Mapping[str, Any]) -> Redactor:
    """A redactor that knows the environment's secrets and those of a composed config.

    Args:
        config: plain and resolved; with its ``logger.private`` home paths and names are hidden, too.
    """
    logger = config.get("logger")
    redactor = Redactor(os.environ, private=isinstance(logger, Mapping) and logger.get("private") is True)
    redactor.learn(config)
    return redactor


@functools.cache
def _words_of_configs() -> set[str]:
    """A login or host that is one of these cannot be told from a setting."""
    files = (ROOT / "configs").rglob("*.yaml")
    return {word for path in files for word in re.findall("[A-Za-z0-9]+", path.read_text(encoding="utf-8"))}


def _home_patterns(environment: Mapping[str, str]) -> list[re.Pattern[str]]:
    homes = {os.path.expanduser("~"), environment.get("HOME", ""), os.path.realpath(os.path.expanduser("~"))}
    longest_first = sorted(homes, key=len, reverse=True)
    return [re.compile(re.escape(h.rstrip("/")) + r"(?![\w.-])") for h in longest_first if len(h) > 2]


def _name_patterns(environment: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """The login and the host name, each with the word that replaces it."""
    names = {environment.get(n, "") for n in ("USER", "LOGNAME", "USERNAME")}
    with contextlib.suppress(OSError, KeyError):
        names.add(getpass.getuser())
    shown = {name: "user" for name in names.difference(_NOBODY) if len(name) > 2} | {socket.gethostname(): "host"}
    return [(re.compile(rf"(?<![A-Za-z0-9]){re.escape(n)}(?![A-Za-z0-9])"), word) for n, word in shown.items()]
