"""Samples of a set in shards, read one by one from local tars or, through a cache, from remote ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ocr.data.formats.shards import LIST, Shard, ShardIndex, read_label, read_list
from ocr.data.index.cache import cache_folder, cached, stamp
from ocr.data.index.identity import in_hash_range
from ocr.data.index.report import Report
from ocr.data.storage.block_cache import BlockCache
from ocr.data.storage.mirror import GIGABYTE, origin
from ocr.data.storage.remote import below
from ocr.data.transforms.decode import decode_data
from ocr.errors import UserError
from ocr.types import LazySample, Truth


@dataclass
class ShardSource:
    """A part of a set in shards, or all of it.

    Attributes:
        index: of the samples.
        shards: that it points into.
        location: folder or address of the tars.
        cache: of their parts, where that is an address; None for a folder.
        weight: as for any source.
    """

    index: ShardIndex
    shards: Sequence[Shard]
    location: str
    cache: BlockCache | None
    weight: float = 1.0

    @classmethod
    def of_folder(cls, folder: Path, hash_range: Sequence[float] | None, cache_gb: float, weight: float) -> ShardSource:
        """The source of a folder with a list of shards.

        Args:
            folder: that :func:`ocr.data.formats.shards.write_shards` wrote, or its stand-in, see
                :func:`ocr.data.storage.mirror.local_folder`.
            hash_range: low and high: only images whose name's hash lies in it; None: all.
            cache_gb: the most that may be kept of remote shards, in 10^9 bytes.

        Raises:
            UserError: there is no list, an index is not the one that it names, or a tar is not as long as it says.
        """
        path = folder / LIST
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}: no shards there, see runners/convert.py") from error
        shards, url = read_list(content, str(path)), origin(folder)
        for shard in shards if url is None else ():
            _check_size(folder / shard.file, shard.size)
        key = stamp(["shards", hashlib.sha256(content).hexdigest()], [])
        index = cached(key, Report(), lambda report: ShardIndex.read(folder, shards), ShardIndex)
        cache = BlockCache(cache_folder("blocks"), round(cache_gb * GIGABYTE)) if url else None
        source = cls(index, shards, url or str(folder), cache, weight)
        if hash_range is None or tuple(hash_range) == (0.0, 1.0):
            return source
        return source.only(in_hash_range((index.names[i] for i in range(len(index))), hash_range))

    def __len__(self) -> int:
        return len(self.index)

    def name(self, i: int) -> str:
        """The place, the shard and the name that the image's file had."""
        return f"{below(self.location, self._shard(i).file)}/{self.index.names[i]}"

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        label, image = self._read(i)
        return decode_data(image, self.name(i)), read_label(label)

    def open(self, i: int) -> LazySample:
        label, image = self._read(i)
        record, pixels = self.index.records[i], partial(decode_data, image, self.name(i))
        return LazySample(int(record["width"]), int(record["height"]), read_label(label), pixels)

    def sizes(self) -> np.ndarray:
        return np.stack([self.index.records["width"], self.index.records["height"]], axis=1)

    def image_file(self, i: int) -> bytes:
        """The content of sample i's image file."""
        return self._read(i)[1]

    def counts(self) -> dict[str, int]:
        records = self.index.records
        return {"images": len(records), "instances": int(records["instances"].sum()),
                "ignored": int(records["ignored"].sum())}  # fmt: skip

    def fingerprint(self) -> str:
        """Hex digest of the shards and of which samples of them: equal sets have equal ones, wherever they lie."""
        digest = hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode())
        for column in ("shard", "offset"):
            digest.update(np.ascontiguousarray(self.index.records[column]).tobytes())
        return digest.hexdigest()[:16]

    def identities(self) -> np.ndarray:
        """Identities that the images had as files, see :meth:`ocr.data.sources.files.FileSource.identities`."""
        return self.index.records["identity"].copy()

    def only(self, indices: Sequence[int]) -> ShardSource:
        """The source with these of its samples."""
        return replace(self, index=self.index.only(indices))

    def runs(self) -> list[int]:
        """Lengths of the runs of samples that lie in one shard."""
        edges = np.flatnonzero(np.diff(self.index.records["shard"], prepend=-1, append=-1))
        return np.diff(edges).tolist()

    def _shard(self, i: int) -> Shard:
        return self.shards[int(self.index.records[i]["shard"])]

    def _read(self, i: int) -> tuple[bytes, bytes]:
        """Label and image file of sample i.

        Raises:
            UserError: the shard is not there, or not the one that its index describes.
        """
        shard, (start, end) = self._shard(i), self.index.span(i)
        if self.cache is None:
            data = _read_part(Path(self.location, shard.file), start, end)
        else:
            data = self.cache.read(below(self.location, shard.file), shard.sha256[:32], shard.size, start, end)
        try:
            return self.index.split(i, data)
        except ValueError as error:
            raise UserError(f"{self.name(i)}: the shard is not the one that its index describes ({error})") from error


def _check_size(path: Path, size: int) -> None:
    try:
        size_on_disk = path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: copy the set again, with all its files") from error
    if size_on_disk != size:
        raise UserError(f"{path} has {size_on_disk} bytes, and {LIST} says {size}: copy it again")


def _read_part(path: Path, start: int, end: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
