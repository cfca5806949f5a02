"""Faults as tools, people and disks make them, put into the bytes of a sound label file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NUMBERS = [
    "",
    "0",
    "-1",
    "-0.0",
    "1e308",
    "-1e308",
    "1e400",
    "9" * 400,
    "NaN",
    "Infinity",
    "-Infinity",
    "0x10",
    "1_0",
    "1,5",
    "½",
    "\uff11\uff12",
    "null",
    "true",
    '""',
    "[]",
    "{}",
    "[[[]]]",
    "2147483648",
    "18446744073709551616",
    "1e-320",
    "+3",
    "3.",
]
TOKENS = [
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n\n",
    b"\t",
    b",",
    b";",
    b"|",
    b'"',
    b"\\",
    b"\\ud800",
    b"\xe2\x80\xa8",
    b"../",
    b"C:\\",
    b"%00",
    b"[" * 300,
    b"{" * 300,
    b"]",
    b"}",
    b"</",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&b;",
    b"&#0;",
    b"<image>",
    b"###",
    b"*",
    b" ",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"file:///",
    b"https://",
    b"\xf0\x9f\xa7\xbe",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "text",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    {"a": []},
    [[0, 0]],
    [[0, 0], [1, 1], ["x", None]],
    "9" * 50,
    [1, 2, 3],
    [[1, 2], [3]],
    [{}],
    "../../x.jpg",
    "/",
]
Mutation = Callable[[bytes], bytes]
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def _place(content: bytes, where: float) -> int:
    return min(int(where * (len(content) + 1)), len(content))


def _cut(where: float, length: int) -> Mutation:
    return lambda content: content[: _place(content, where)] + content[_place(content, where) + length :]


def _insert(where: float, token: bytes) -> Mutation:
    return lambda content: content[: _place(content, where)] + token + content[_place(content, where) :]


def _overwrite(where: float, token: bytes) -> Mutation:
    return lambda content: content[: _place(content, where)] + token + content[_place(content, where) + len(token) :]


def _repeat(where: float, length: int) -> Mutation:
    def mutate(content: bytes) -> bytes:
        start = _place(content, where)
        return content[: start + length] + content[start : start + length] + content[start + length :]

    return mutate


def _number(where: float, number: str) -> Mutation:
    def mutate(content: bytes) -> bytes:
        found = list(NUMBER.finditer(content))
        if not found:
            return content
        match = found[min(int(where * len(found)), len(found) - 1)]
        return content[: match.start()] + number.encode() + content[match.end() :]

    return mutate


def _lines(one: float, other: float) -> Mutation:
    def mutate(content: bytes) -> bytes:
        lines = content.split(b"\n")
        a, b = (min(int(k * len(lines)), len(lines) - 1) for k in (one, other))
        lines[a], lines[b] = lines[b], lines[a] + lines[b]
        return b"\n".join(lines)

    return mutate


def _encoding(name: str) -> Mutation:
    return lambda content: content.decode("utf-8", "replace").encode(name, "replace")


def _json(where: float, value: Any, key: str | None) -> Mutation:
    """Put a value, or a key with it, in the place of one of the values of a JSON file; one of JSON lines its first."""

    def mutate(content: bytes) -> bytes:
        try:
            tree = json.loads(content)
        except (ValueError, RecursionError):
            return content
        places = list(_places(tree))
        if not places:
            return content
        parent, at = places[min(int(where * len(places)), len(places) - 1)]
        if key is None:
            parent[at] = value
        elif isinstance(parent, dict):
            parent[key] = parent.pop(at)
        else:
            parent.insert(at, parent[at])
        return json.dumps(tree).encode()

    return mutate


def _places(tree: Any) -> Any:
    for at in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, at
        yield from _places(tree[at])


fractions = st.floats(0, 1, allow_nan=False)
mutations = st.one_of(
    st.builds(_cut, fractions, st.integers(1, 400)),
    st.builds(_cut, fractions, st.just(10**9)),
    st.builds(_insert, fractions, st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=6)),
    st.builds(_overwrite, fractions, st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=6)),
    st.builds(_repeat, fractions, st.integers(1, 400)),
    st.builds(_number, fractions, st.sampled_from(NUMBERS)),
    st.builds(_lines, fractions, fractions),
    st.builds(_encoding, st.sampled_from(["utf-16", "utf-16-be", "utf-8-sig", "latin-1", "cp1251", "shift_jis"])),
    st.builds(_json, fractions, st.sampled_from(VALUES), st.sampled_from([None, None, "points", "text", "image", "0"])),
)


def mutate(content: bytes, steps: list[Mutation]) -> bytes:
    """The content after each of the steps."""
    for step in steps:
        content = step(content)
    return content
