"""Arrays that a folder holds, to be mapped by all processes of a machine, and strings in such arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np


def offsets_of(lengths: Sequence[int]) -> np.ndarray:
    """int64 (N + 1,): row n of N rows of these lengths, one after the other, begins at entry n."""
    return np.cumsum([0, *lengths], dtype=np.int64)


def join_offsets(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Offsets of several tables as those of one table with all their rows."""
    starts = offsets_of([part[-1] for part in parts])
    return np.concatenate([[0], *(part[1:] + start for part, start in zip(parts, starts))]).astype(np.int64)


@dataclass(frozen=True)
class StringTable:
    """Strings as one array of bytes, uint8, and offsets."""

    data: np.ndarray
    offsets: np.ndarray

    @classmethod
    def build(cls, strings: Sequence[str]) -> StringTable:
        encoded = [_encoded(s) for s in strings]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), offsets_of([len(e) for e in encoded]))

    @classmethod
    def join(cls, parts: Sequence[StringTable]) -> StringTable:
        """Several tables one after the other."""
        return cls(np.concatenate([p.data for p in parts]), join_offsets([p.offsets for p in parts]))

    def __getitem__(self, i: int) -> str:
        return self.data[self.offsets[i] : self.offsets[i + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __len__(self) -> int:
        return len(self.offsets) - 1


def _encoded(string: str) -> bytes:
    """Encode as UTF-8; bad bytes of file names stay as they are, lone surrogates from JSON become U+FFFD."""
    try:
        return string.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return string.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


@dataclass(frozen=True)
class Index:
    """Base of dataclasses whose fields are arrays, or tables of strings.

    Attributes:
        folder: where it is mapped from, see :meth:`open`; None for one in memory.
    """

    TABLES: ClassVar[tuple[str, ...]]  # the fields that are tables
    folder: Path | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        raise NotImplementedError

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map what :meth:`save` wrote.

        Raises:
            OSError, ValueError, EOFError: the folder is not whole.
        """

        def load(name: str) -> np.ndarray:
            return np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray)

        names = [f.name for f in fields(cls) if f.name != "folder"]
        tables = {name: StringTable(load(name), load(f"{name}_offsets")) for name in cls.TABLES}
        return cls(**{name: load(name) for name in names if name not in tables}, **tables, folder=folder)

    def save(self, folder: Path) -> None:
        """Write all arrays into an existing folder."""
        for name, value in vars(self).items():
            if isinstance(value, StringTable):
                np.save(folder / f"{name}.npy", value.data)
                np.save(folder / f"{name}_offsets.npy", value.offsets)
            elif isinstance(value, np.ndarray):
                np.save(folder / f"{name}.npy", value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A process that is not forked maps the folder, too, instead of being sent a copy."""
        return (type(self).open, (self.folder,)) if self.folder else super().__reduce_ex__(protocol)
