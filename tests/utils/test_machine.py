from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ocr.utils.machine import limit_openmp_spin
from tests.conftest import ROOT


def test_threads_wait_for_a_short_while_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "environ", {})
    limit_openmp_spin()
    assert os.environ == {"GOMP_SPINCOUNT": "3000"}
    for own in ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "ACTIVE"}):
        monkeypatch.setattr(os, "environ", dict(own))
        limit_openmp_spin()
        assert os.environ == own


def test_a_runner_says_so_before_torch_is_there():
    """The setting counts only for what is loaded after it."""
    code = """
import os, sys
sys.path.insert(0, "runners")
import _launch
assert "torch" not in sys.modules
_launch._run(lambda: print(os.environ["GOMP_SPINCOUNT"]))
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "3000\n", done.stderr
