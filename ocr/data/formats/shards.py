"""Shards: a labelled set in tar files of equal size, for sets that are too large for one disk.

Each tar is one that WebDataset reads, with two members per sample, ``<number>.json`` (width, height, polygons, texts,
ignore) and the image's own file ``<number>.<suffix>``. Beside it lies an index, an npz file that says where in the tar
each sample is, and ``shards.json`` lists all shards. With these a sample is one read of a part of one file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ocr.data.index.arrays import Index, StringTable
from ocr.data.index.identity import hashes
from ocr.errors import UserError, first_line
from ocr.types import Truth
from ocr.utils.files import replacing, write_atomic

NAME = "shards"
LIST, VERSION = "shards.json", 1
BLOCK = tarfile.BLOCKSIZE  # bytes: a member is a block for its header, and its content filled up to whole blocks
RECORD = np.dtype([("shard", "<i4"), ("offset", "<i8"), ("label_bytes", "<i4"), ("image_bytes", "<i4"),
                   ("width", "<i4"), ("height", "<i4"), ("instances", "<i4"), ("ignored", "<i4"),
                   ("identity", "<i8")])  # fmt: skip


@dataclass(frozen=True)
class Shard:
    """A tar file and its index; digests are hex."""

    file: str  # name of the tar
    samples: int
    size: int  # of the tar in bytes
    sha256: str  # of the tar
    index_sha256: str

    @property
    def index_file(self) -> str:
        """Name of the npz file: ``records``, see :data:`RECORD`, and the images' names as bytes and offsets."""
        return f"{Path(self.file).stem}.npz"


@dataclass(frozen=True)
class ShardSample:
    """A sample to be written."""

    name: str  # of its image file
    image: bytes  # the content of that file
    width: int  # as a viewer shows the image
    height: int
    truth: Truth


def write_shards(samples: Iterable[ShardSample], folder: Path, shard_bytes: int) -> Path:
    """Write samples into as many shards as it takes.

    Args:
        samples: in the order that they shall have.
        folder: that exists.
        shard_bytes: at which a shard is full.

    Returns:
        ``shards.json``, which is written last.
    """
    shards: list[Shard] = []
    waiting = iter(samples)
    for first in waiting:
        before = sum(shard.samples for shard in shards)
        shards.append(_write_shard(chain([first], waiting), folder, len(shards), before, shard_bytes))
    total = sum(shard.samples for shard in shards)
    listed = {"version": VERSION, "samples": total, "shards": [dataclasses.asdict(shard) for shard in shards]}
    return write_atomic(folder / LIST, json.dumps(listed, indent=1) + "\n")


def _write_shard(samples: Iterable[ShardSample], folder: Path, number: int, before: int, shard_bytes: int) -> Shard:
    """Write the next samples until a shard is full; ``before`` are in earlier ones, and names must not repeat."""
    file = f"shard-{number:06d}.tar"
    records: list[tuple[int, ...]] = []
    names: list[str] = []
    with replacing(folder / file) as raw, tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            label, length = _label(sample), len(sample.image)
            [identity] = hashes([f"{sample.name} {length} {sample.width} {sample.height}"])
            counts = len(sample.truth.polygons), int(np.count_nonzero(sample.truth.ignore))
            position = number, tar.offset, len(label), length
            image_suffix = Path(sample.name).suffix.lower() or ".image"  # WebDataset decodes by it
            for suffix, content in ((".json", label), (image_suffix, sample.image)):
                member = tarfile.TarInfo(f"{before + len(names):09d}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            records.append((*position, sample.width, sample.height, *counts, identity))
            names.append(sample.name)
            if tar.offset >= shard_bytes:
                break
    table, index = StringTable.build(names), io.BytesIO()
    np.savez(index, records=np.array(records, RECORD), names=table.data, name_offsets=table.offsets)
    with (folder / file).open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    index_sha256 = hashlib.sha256(index.getvalue()).hexdigest()
    shard = Shard(file, len(records), (folder / file).stat().st_size, sha256, index_sha256)
    write_atomic(folder / shard.index_file, index.getvalue())
    return shard


def _label(sample: ShardSample) -> bytes:
    """Labels as JSON, with the digits that each float32 needs to be read back exactly."""
    polygons = [
        [[float(str(v)) for v in point] for point in np.asarray(polygon, np.float32)]
        for polygon in sample.truth.polygons
    ]
    label = {"width": sample.width, "height": sample.height, "polygons": polygons, "texts": [*sample.truth.texts],
             "ignore": np.asarray(sample.truth.ignore, bool).tolist()}  # fmt: skip
    return json.dumps(label).encode()


def read_list(content: bytes, where: str) -> list[Shard]:
    """The shards of a ``shards.json``.

    Args:
        content: of the file.
        where: it lies, for messages.

    Raises:
        UserError: it is no such file, or of another version.
    """
    try:
        plain = json.loads(content)
        if (version := plain["version"]) == VERSION:
            shards = [Shard(**shard) for shard in plain["shards"]]
            odd = [s.file for s in shards if Path(s.file).name != s.file or not s.file.endswith(".tar")]
            if odd or sum(shard.samples for shard in shards) != plain["samples"]:
                raise ValueError(f"wrong names or numbers {odd}")
            return shards
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is no list of shards ({first_line(error)}): runners/convert.py writes one") from error
    raise UserError(f"{where} is of version {version}, and {VERSION} is read here: convert the set again")


def check_index_file(content: bytes, shard: Shard, where: str) -> None:
    """Raise UserError where the index of a shard is not the one that the list names."""
    if hashlib.sha256(content).hexdigest() != shard.index_sha256:
        raise UserError(f"{where} is not the index that {LIST} names: copy the set again")


@dataclass(frozen=True)
class ShardIndex(Index):
    """Index of a set's S samples: shard, offset and length of each.

    Attributes:
        records: :data:`RECORD` (S,); ``shard`` is a position in the list of shards.
        names: of the image files.
    """

    TABLES = ("names",)
    records: np.ndarray
    names: StringTable

    @classmethod
    def read(cls, folder: Path, shards: Sequence[Shard]) -> ShardIndex:
        """The indexes of all shards, one after the other.

        Raises:
            UserError: one is not there, or not the one that the list names.
        """
        records, names = [np.zeros(0, RECORD)], [StringTable.build([])]
        for k, shard in enumerate(shards):
            path = folder / shard.index_file
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}: copy the set again, with all its files") from error
            check_index_file(content, shard, str(path))
            with np.load(io.BytesIO(content)) as arrays:
                records.append(arrays["records"])
                records[-1]["shard"] = k
                names.append(StringTable(arrays["names"], arrays["name_offsets"]))
        return cls(np.concatenate(records), StringTable.join(names))

    def __len__(self) -> int:
        return len(self.records)

    def only(self, indices: Sequence[int]) -> ShardIndex:
        """An index of these of the samples, in memory."""
        return ShardIndex(self.records[list(indices)], StringTable.build([self.names[i] for i in indices]))

    def span(self, i: int) -> tuple[int, int]:
        """First byte of sample i in its tar and the one after its last."""
        record = self.records[i]
        start = int(record["offset"])
        return start, start + 2 * BLOCK + _in_blocks(int(record["label_bytes"])) + int(record["image_bytes"])

    def split(self, i: int, data: bytes) -> tuple[bytes, bytes]:
        """Label and image file of sample i.

        Args:
            data: of its :meth:`span`.

        Raises:
            ValueError: the data is not of that sample.
        """
        label_bytes, image_bytes = int(self.records[i]["label_bytes"]), int(self.records[i]["image_bytes"])
        second = BLOCK + _in_blocks(label_bytes)
        for start, length in ((0, label_bytes), (second, image_bytes)):
            try:
                member = tarfile.TarInfo.frombuf(data[start : start + BLOCK], "utf-8", "strict")
            except tarfile.TarError as error:
                raise ValueError(f"no member of a tar file: {first_line(error)}") from error
            if member.size != length:
                raise ValueError(f"a member of {member.size} bytes where the index has {length}")
        return data[BLOCK : BLOCK + label_bytes], data[second + BLOCK :]


def _in_blocks(size: int) -> int:
    """Bytes of whole blocks."""
    return -(-size // BLOCK) * BLOCK


def read_label(label: bytes) -> Truth:
    """The labels of a sample."""
    plain = json.loads(label)
    polygons = [np.array(polygon, np.float32) for polygon in plain["polygons"]]
    return Truth(polygons, np.array(plain["ignore"], bool), plain["texts"])
