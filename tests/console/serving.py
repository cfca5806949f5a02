"""A console for a test: its process, its address, and requests with and without a browser."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
import torch

from tests.conftest import ROOT

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: make test-console, or CHROMIUM=<path>")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


@dataclass
class Served:
    """A running console.

    Attributes:
        address: as printed, with the token.
        process: of the server.
    """

    address: str
    process: subprocess.Popen[str]

    @property
    def base(self) -> str:
        return self.address.partition("/?")[0]

    @property
    def cookie(self) -> dict[str, str]:
        return {"Cookie": f"console_{self.base.rpartition(':')[2]}={self.address.partition('token=')[2]}"}

    def get(self, path: str) -> bytes:
        """The content at a path."""
        with urllib.request.urlopen(
            urllib.request.Request(self.base + path, headers=self.cookie), timeout=200
        ) as answer:
            content: bytes = answer.read()
            return content

    def ask(self, path: str, data: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:
        """(status, text) of a request with the cookie, redirects not followed; ``Cookie=""`` leaves it out."""
        body = None if data is None else urlencode(data).encode()
        given = {key.replace("_", "-"): value for key, value in {**self.cookie, **headers}.items()}
        request = urllib.request.Request(self.base + path, body, {k: v for k, v in given.items() if v})
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=200) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextlib.contextmanager
def served(cwd: Path, *arguments: str) -> Iterator[Served]:
    """A console on a free port of the loopback; its jobs end with the block, too."""
    command = [sys.executable, str(ROOT / "runners/console.py"), "port=0", *arguments]
    with (cwd / "console.log").open("a") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (cwd / "console.log").read_text()
        yield Served(address, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def end_jobs(runs: Path) -> None:
    """Kill what consoles have started below a folder of runs."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(runs / ".console") in word for word in words):
            for child in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    child.kill()


def give_data(checkpoint: Path, root: Path, split: str) -> None:
    """Let a checkpoint say that a split of its data is an ICDAR set."""
    content = torch.load(checkpoint, weights_only=True)
    spec = {"format": "icdar", "images": "images", "annotations": "labels"}
    content["data"]["config"] |= {"root": str(root), split: [spec]}
    torch.save(content, checkpoint)
