"""Real file systems of a few megabytes, for what happens when a disk is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: float, files: int = 0) -> Iterator[Path]:
    """A file system of its own at ``folder``, in memory; the test is skipped where none can be mounted.

    Args:
        files: and folders, itself among them, that it has room for; 0 for any number.
    """
    folder.mkdir(parents=True)
    options = f"size={int(megabytes * 1024)}k,nr_inodes={files}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no program mount")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def other_file_system(than: Path) -> Path:
    """A folder for files that lies on another file system than a path; the test is skipped where there is none."""
    for place in (Path("/dev/shm"), Path("/run"), Path("/var/tmp")):
        if place.is_dir() and os.access(place, os.W_OK) and place.stat().st_dev != than.stat().st_dev:
            return place
    pytest.skip("there is one file system only")


def fill(folder: Path) -> Path:
    """Take every byte that the file system of a folder has left; the file that has them."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    return filler
