"""Signs that a value is secret: the name that it stands under, and the text around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote

from ocr.tracking.naming import file_safe

HIDDEN = "***"
_KEYS = "access|account|api|auth|client|deploy|encryption|master|private|secret|service|session|signing|ssh"
_WORDS = rf"""(?:{_KEYS})[_-]?key|[a-z]*tokens?|[a-z]*pwd|pass(?:word|wd|phrase|code)s?|credentials?|creds?
    |o?auth2?|authorization|bearer|cookies?|jwt|signatures?"""
_NAME = re.compile(
    rf"""(?:^|[^a-z0-9])(?:{_WORDS})\d*(?:$|[^a-z0-9])|api_?key|password|secret
    |(?:^|[^a-z0-9])(?<!conv_)(?:pw|pass|sig)\d*$""",  # at the end: conv_pw.weight is a pointwise convolution's
    re.IGNORECASE | re.VERBOSE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MEASURES = "max|min|num|n|count|total|per|len|length|size|limit|ttl|timeout|expiry|expires|seconds|weight"
_MEASURE = re.compile(rf"(?:^|[^a-z0-9])(?:{_MEASURES})(?:$|[^a-z0-9])", re.IGNORECASE)  # max_tokens counts tokens

_BARE = r"""[^\s,;&'"}\])]+"""
_NAMED = re.compile(r"""(?<![\w.@/+~-])([\w.@/+~-]++)["']?[ \t]*([=:])[ \t]*""")
_VALUE = re.compile(
    rf"""("(?:[^"\\]|\\.)*(?:"|\Z)|'(?:[^'\\]|\\.)*(?:'|\Z))
    |\[(?:[^\[\]]|\[[^\[\]]*\])*(?:\]|\Z) | \$?\{{[^{{}}]*(?:\}}|\Z) | {_BARE}""",
    re.VERBOSE | re.DOTALL,
)
_SCHEME = re.compile(r"(?:basic|bearer|token|digest|apikey|negotiate|aws4-hmac-sha256)\s+(?=\S)", re.IGNORECASE)
_BEARER = re.compile(rf"\bBearer\s+({_BARE})")
_IN_URL = re.compile(  # also with one slash left of two, as pathlib folds them
    r"""\b(?:https?:/{1,3}|[a-z][a-z0-9+.-]*+:/{1,3}(?=[^/\s@]*:))
    ([^/\s?#"']+|[^/\s:@"']*:(?!\d+/)[^\s@"']+)@""",
    re.IGNORECASE | re.VERBOSE,
)
_REFERENCE = re.compile(r"\$\{(?:oc\.env:)?[\w.]+\}")
HARMLESS = ("", "null", "none", "true", "false", HIDDEN)


def is_secret_name(name: str) -> bool:
    """Whether a setting or variable of this name holds a secret.

    >>> [is_secret_name(n) for n in ("WANDB_API_KEY", "db.password", "hf_token", "pw", "authorization", "authToken")]
    [True, True, True, True, True, True]
    >>> [is_secret_name(n) for n in ("monitor", "max_epochs", "keys", "author", "pin_memory", "design", "tokenizer")]
    [False, False, False, False, False, False, False]
    """
    return _NAME.search(_CAMEL.sub("_", name)) is not None


def encodings_of(value: str) -> Iterator[str]:
    """Spellings of a secret: as it is, and encoded in a URL, a name, a path, JSON, a shell's line and an override."""
    scheme = _SCHEME.match(value)
    for text in {value, value.strip(), value.strip().strip("'\""), value[scheme.end() :] if scheme else value}:
        yield from (text, quote(text), quote(text, safe=""), unquote(text), json.dumps(text)[1:-1])
        yield from (file_safe(text), text.replace("_", "-"), text.replace("-", "_"), re.sub("/{2,}", "/", text))
        yield from (text.replace("'", "'\"'\"'"), text.replace("'", "\\'"))


def is_harmless(value: Any, name: str) -> bool:
    """Whether a value under a secret name is none: nothing, a switch, a reference to another setting, a count."""
    if isinstance(value, str):
        if value.lower() in HARMLESS or _REFERENCE.fullmatch(value):
            return True
        return _MEASURE.search(name) is not None and re.fullmatch(r"[+-]?[\d._]+", value) is not None
    return value is None or isinstance(value, bool) or _MEASURE.search(name) is not None


def hidden(value: Any, name: str) -> Any:
    """The value under a secret name, with every text and number in it hidden."""
    if isinstance(value, Mapping):
        return {key: hidden(item, name) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(hidden(item, name) for item in value)
    return HIDDEN if isinstance(value, (str, int, float)) and not is_harmless(value, name) else value


def secret_values(data: Any, name: str = "") -> Iterator[str]:
    """The secrets in nested plain data; ``name`` is the secret name that it stands under, if any."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from secret_values(value, name or (str(key) if is_secret_name(str(key)) else ""))
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from secret_values(value, name)
    elif name and isinstance(data, (str, int, float)) and not is_harmless(data, name):
        yield str(data)
    elif isinstance(data, str):
        for part in (data[start:stop] for start, stop in secret_spans(data)):
            if not part.isalpha():  # a word of prose
                yield from (part, part.rsplit(":", 1)[-1])  # of name:password the latter


def secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Find secrets in a text by what is around them: URLs, ``Bearer``, names with ``=`` or ``:``."""
    yield from _logins(text)
    for match in _NAMED.finditer(text):
        name, separator = match.groups()
        if not is_secret_name(name):
            continue
        start = match.end()
        if "auth" in name.lower() and (scheme := _SCHEME.match(text, start)):
            start = scheme.end()
        value = _VALUE.match(text, start)
        stop = value.end() if value else start
        if match.start() == 0 and separator == "=":  # an override: commas separate the values of a sweep
            stop = max(stop, len(text.split("\n", 1)[0]))
        bare = text[start:stop].strip("'\"")
        if bare == HIDDEN or not is_harmless(bare, name):
            yield start, stop


def _logins(text: str) -> Iterator[tuple[int, int]]:
    return (m.span(1) for pattern in (_IN_URL, _BEARER) for m in pattern.finditer(text))


def holds_login(text: str) -> bool:
    """Whether a URL in the text has a user or password, or a header a token."""
    return next(_logins(text), None) is not None
