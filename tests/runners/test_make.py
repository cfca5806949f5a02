"""The make targets, before an environment is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tests.conftest import ROOT


def _make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(ROOT), f"VENV={cwd}/venv", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", ["train", "finetune"])
def test_make_says_that_the_environment_is_being_made(target: str, tmp_path: Path):
    done = _make(target, "DATA=receipts", "PYTHON=/bin/false", cwd=tmp_path)
    assert done.returncode == 2 and "making the environment in" in done.stdout


def test_make_finetune_asks_for_the_folder_before_anything_else(tmp_path: Path):
    done = _make("finetune", "PYTHON=/bin/false", cwd=tmp_path)
    assert done.returncode == 2 and "making" not in done.stdout and "make finetune DATA=<folder" in done.stderr


def test_make_finetune_takes_any_folder_name(tmp_path: Path):
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    python.chmod(0o755)
    (tmp_path / "venv/.ready-dev").touch()
    folder = 'it\'s "영수증" [1], {a}'
    done = _make("finetune", f"DATA={folder}", "EXTRAS=dev", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [override] = [line for line in done.stdout.splitlines() if line.startswith("data.root=")]
    assert OverridesParser.create().parse_override(override).value() == folder
