"""What is written is whole or not there, whatever ends the write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ocr.errors import DiskFull, UserError, user_error
from ocr.utils.files import PARTIAL_SUFFIX, copy_atomic, save_tensors, write_atomic
from tests.conftest import ROOT
from tests.disks import fill, small_disk
from tests.tiny import wait_for

WRITE_FOREVER = """
import sys
from ocr.utils.files import write_atomic
path, size = sys.argv[1], int(sys.argv[2])
for k in range(100_000):
    write_atomic(path, bytes([65 + k % 26]) * size)
"""


def test_a_file_is_replaced_with_its_folder_made(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "file.json"
    assert write_atomic(path, "영수증\n") == path
    assert path.read_bytes() == "영수증\n".encode()
    write_atomic(path, b"other")
    assert path.read_bytes() == b"other"
    assert [p.name for p in path.parent.iterdir()] == ["file.json"]


def test_a_write_that_raises_leaves_the_old_file(tmp_path: Path):
    path = write_atomic(tmp_path / "file.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    with pytest.raises(FileNotFoundError):
        copy_atomic(tmp_path / "nowhere", path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_kill_in_the_middle_leaves_the_old_file_or_the_new_one(tmp_path: Path):
    path, size = tmp_path / "file.bin", 50_000_000
    part = path.with_name(path.name + PARTIAL_SUFFIX)
    for _ in range(5):
        command = [sys.executable, "-c", WRITE_FOREVER, str(path), str(size)]
        with subprocess.Popen(command, cwd=ROOT) as process:
            wait_for(path.exists)
            wait_for(lambda: part.exists() and part.stat().st_size > 0)
            process.kill()
        content = path.read_bytes()
        assert len(content) == size and len(set(content)) == 1


def test_a_full_disk_is_one_line_and_the_old_file_stays(tmp_path: Path):
    with small_disk(tmp_path / "disk", 3) as disk:
        path = disk / "checkpoints" / "last.ckpt"
        save_tensors({"weights": torch.zeros(250_000)}, path)
        with pytest.raises(DiskFull) as caught:
            save_tensors({"weights": torch.ones(600_000)}, path)
        message = str(caught.value)
        assert message.startswith(f"no space left in {path.parent}: last.ckpt needs 2.4 MB, 2.1 MB are free;")
        assert "\n" not in message
        assert not torch.load(path, weights_only=True)["weights"].any()
        assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_found_by_others_is_a_user_error_too(tmp_path: Path):
    (tmp_path / "source").write_bytes(bytes(10_000))
    with small_disk(tmp_path / "disk", 1) as disk:
        fill(disk)
        with pytest.raises(OSError, match="No space left") as caught:
            shutil.copyfile(tmp_path / "source", disk / "copy")
        found = user_error(caught.value)
        assert isinstance(found, DiskFull) and f"no space left in {disk}: 0.0 kB are free" in str(found)
    with open("/dev/full", "wb", buffering=0) as file, pytest.raises(OSError, match="No space left") as caught:
        file.write(b"x")
    assert isinstance(user_error(caught.value), DiskFull), "one that does not say which file it was"
    assert user_error(FileNotFoundError(2, "no such file", "x")) is None


def test_a_copy_is_whole_when_it_has_its_name(tmp_path: Path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    copy_atomic(source, tmp_path / "a" / "target")
    assert (tmp_path / "a" / "target").read_bytes() == source.read_bytes()


def test_the_trainers_checkpoints_are_written_so(tmp_path: Path):
    from ocr.training.checkpoints import AtomicCheckpointIO

    AtomicCheckpointIO().save_checkpoint({"step": 7}, tmp_path / "checkpoints" / "last.ckpt")
    assert AtomicCheckpointIO().load_checkpoint(tmp_path / "checkpoints" / "last.ckpt", weights_only=True) == {
        "step": 7
    }
    with pytest.raises(UserError, match="no space left"), small_disk(tmp_path / "disk", 0.1) as disk:
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(100_000)}, disk / "last.ckpt")
