"""Questions to the resident process, see :mod:`ocr.console.worker`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from ocr.jobs.command_line.overrides import CONFIGS


class Checker:
    """The resident process: started with the server, again when it has ended, and asked one question at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start it; its imports take seconds, in which it can be asked already."""
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "ocr.console.worker"]
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=CONFIGS.parent)

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def check(self, arguments: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
        """See :func:`ocr.console.worker.check`."""
        async with self._turn:
            if self._process is None or self._process.returncode is not None:
                await self.start()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(ConnectionError):
                process.stdin.write(json.dumps({"arguments": list(arguments), "names": list(names)}).encode() + b"\n")
                await process.stdin.drain()
            answer = await process.stdout.readline()
            if not answer:
                await process.wait()
                return {"problems": ["the process that checks settings has ended, try once more"]}
            return dict(json.loads(answer))
