"""How a process ends while an upload still hangs in its thread."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import atexit, sys
sys.path[:0] = ["runners", "."]
from _launch import launch
from ocr.errors import UserError
from ocr.tracking.ending import abandoned
def main():
    {given_up}
    print("done")
    {last}
atexit.register(lambda: print("finalized"))
launch(main)
"""


@pytest.mark.parametrize(
    "last, code, said",
    [("pass", 0, ""), ("raise UserError('no data')", 2, "error: no data"), ("{}['key']", 1, "KeyError: 'key'"),
     ("sys.exit(5)", 5, "")],
)  # fmt: skip
@pytest.mark.parametrize("hangs", [True, False])
def test_the_exit_code_stands_and_nothing_is_torn_down_under_a_hanging_upload(
    last: str, code: int, said: str, hangs: bool
):
    program = CODE.format(last=last, given_up="abandoned.set()" if hangs else "")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and done.stderr.count(said or "\0") == bool(said), done.stderr
    assert done.stdout.split() == (["done"] if hangs else ["done", "finalized"])
