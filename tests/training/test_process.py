from __future__ import annotations

import subprocess
import sys

from tests.tiny import ROOT

SCRIPT = """
import torch
from ocr.training.process import prepare_process
prepare_process()
least = torch.full((2, 1_000_000), 1e-39)
print(int((least * 0.5 != 0).sum()), int((least * 0.5 + 1e-30 != 0).sum()))
"""


def test_numbers_that_processors_are_slow_with_are_zero_in_all_threads():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT)
    assert done.stdout.split() == ["0", "2000000"]
