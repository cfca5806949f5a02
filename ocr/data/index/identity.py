"""Hashes that tell whether two sources hold the same image: a checkpoint keeps those that it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np


def hashes(texts: Iterable[str]) -> np.ndarray:
    """int64 (S,), a hash of 64 bits per text, the same on every machine."""
    digests = [hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<i8")


def file_hashes(paths: Iterable[Path], sizes: Iterable[Sequence[int]]) -> np.ndarray:
    """int64 (S,), from the name, the length in bytes and the (width, height) of each image, wherever it lies."""
    return hashes(f"{path.name} {_length(path)} {w} {h}" for path, (w, h) in zip(paths, sizes, strict=True))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was indexed: the loader says so
        return -1


def in_hash_range(names: Iterable[str], hash_range: Sequence[float]) -> list[int]:
    """Indices of the image names whose stem has a hash within a range (low included, high not)."""
    low, high = hash_range
    return [i for i, name in enumerate(names) if low <= name_hash(Path(name).stem) < high]


def name_hash(name: str) -> float:
    """Hash of a name in 0..1: a set may grow without images changing splits."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48
