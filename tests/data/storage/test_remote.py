"""Sets of loose files at an address are copied once, and changes there are followed."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from ocr.audit.splits import read_splits
from ocr.data.storage import remote
from ocr.data.storage.mirror import local_folder
from ocr.errors import UserError
from ocr.jobs.make_data import write_icdar
from tests.data.sources.test_shards import SPLITS, _own_cache, source_of  # noqa: F401
from tests.file_server import FileServer


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loose")
    write_icdar(folder, 6, 1, 0.5)
    return folder


@pytest.fixture
def bucket(loose: Path):
    """The set in fsspec's memory, which describes files as a bucket does."""
    system = fsspec.filesystem("memory")
    system.put(str(loose), "/bucket/set", recursive=True)
    yield system
    system.rm("/bucket", recursive=True)


@pytest.mark.parametrize("place", ["http", "memory", "file"])
def test_a_set_elsewhere_is_read_as_one_here(loose: Path, bucket, place: str):
    expected = read_splits({"root": str(loose), **SPLITS})
    server = FileServer(loose)
    with server.running() as url:
        root = {"http": url, "memory": "memory://bucket/set", "file": loose.as_uri()}[place]
        splits = read_splits({"root": root, "cache_gb": 1, **SPLITS})
        counts = {name: split.counts() for name, split in splits.items()}
        assert counts == {name: split.counts() for name, split in expected.items()} and counts["train"]["images"] > 1
        fingerprints = [split.sources[0].fingerprint() for split in splits.values()]
        assert fingerprints == [split.sources[0].fingerprint() for split in expected.values()]


def test_only_what_has_changed_is_copied_again(bucket, monkeypatch: pytest.MonkeyPatch):
    folder = local_folder("memory://bucket/set", 1)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    names = sorted(str(path.relative_to(folder)) for path in times if path.suffix in (".jpg", ".txt"))
    assert len(names) == 12
    bucket.pipe(f"/bucket/set/{names[0]}", b"another")
    bucket.rm(f"/bucket/set/{names[1]}")
    bucket.pipe("/bucket/set/more/new.txt", b"new")
    local_folder.cache_clear()
    assert local_folder("memory://bucket/set/", 1) == folder
    assert (folder / names[0]).read_bytes() == b"another" and (folder / "more/new.txt").read_bytes() == b"new"
    assert not (folder / names[1]).exists()
    assert all((folder / name).stat().st_mtime_ns == times[folder / name] for name in names[2:])


def test_a_copy_that_was_cut_off_goes_on(bucket, monkeypatch: pytest.MonkeyPatch):
    from fsspec.implementations.memory import MemoryFileSystem

    from ocr.data.storage import mirror

    monkeypatch.setattr(mirror, "FILES_PER_RECORD", 5)
    monkeypatch.setattr(remote, "ATTEMPTS", 1)
    get, copied = MemoryFileSystem.get, []

    def fails_late(self, sources, targets):
        copied.extend(sources)
        if len(copied) > 10:
            raise ConnectionError("gone")
        return get(self, sources, targets)

    monkeypatch.setattr(MemoryFileSystem, "get", fails_late)
    with pytest.raises(UserError, match="memory://bucket/set cannot be read: ConnectionError: gone"):
        local_folder("memory://bucket/set", 1)
    monkeypatch.setattr(MemoryFileSystem, "get", lambda self, s, t: (copied.append(len(s)), get(self, s, t))[1])
    folder = local_folder("memory://bucket/set", 1)
    assert copied[-1] < 5 and len(list(folder.rglob("*.jpg"))) == 6


@pytest.mark.parametrize(
    "root, words",
    [
        ("https://bob:hunter2@host/set", "a login in its address"),
        ("s3://key:secret@bucket/set", "a login in its address"),
        ("https://host/set?X-Amz-Signature=abc", "a query in its address"),
        ("nowhere://bucket/set", "nowhere:// cannot be read here"),
        ("memory://bucket/none", "memory://bucket/none"),
        ("http://127.0.0.1:9/set", "http://127.0.0.1:9/set/.*cannot be read"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_used_is_one_line(bucket, root: str, words: str):
    with pytest.raises(UserError, match=words) as caught:
        source_of(root)
    assert "hunter2" not in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_that_arrives_in_part_is_noticed(bucket, monkeypatch: pytest.MonkeyPatch):
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(MemoryFileSystem, "get", lambda self, s, targets: [Path(t).write_bytes(b"x") for t in targets])
    with pytest.raises(UserError, match="1 bytes arrived of"):
        local_folder("memory://bucket/set", 1)


def test_a_set_larger_than_the_cache_is_refused(bucket):
    with pytest.raises(UserError, match="loose files, and data.cache_gb=1e-06: raise that, or convert"):
        local_folder("memory://bucket/set", 1e-6)
