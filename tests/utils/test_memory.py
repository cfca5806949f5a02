from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CODE = """
import re
from pathlib import Path
from ocr.utils.memory import trim_malloc, disable_malloc_trimming

def held():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

disable_malloc_trimming()
before = held()
blocks = [bytes([1]) * 100_000 for _ in range(3000)]
del blocks
kept = held() - before
trim_malloc()
print(kept, held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not Path("/proc/self/status").exists(), reason="needs glibc")
def test_freed_memory_is_kept_until_it_is_given_back():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, left = map(float, done.stdout.split())
    assert kept > 200 and left < 50, "megabytes of 300"
