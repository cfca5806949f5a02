"""Questions to the resident process, see :mod:`ocr.console.worker`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from ocr.console.queue import environment

WAIT_SECONDS = 120  # imports included
LINE_BYTES = 10_000_000


class Checker:
    """The resident process: started with the server, again when it has ended, and asked one question at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start it; its imports take seconds, in which it can be asked already."""
        pipe = asyncio.subprocess.PIPE
        command = [sys.executable, "-m", "ocr.console.worker"]
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, limit=LINE_BYTES, env=environment()
        )

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def check(self, arguments: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
        """See :func:`ocr.console.worker.check`.

        A process that does not answer is ended: its answer would be taken for that to the next question.
        """
        async with self._turn:
            if self._process is None or self._process.returncode is not None:
                await self.start()
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    return await self._ask({"arguments": list(arguments), "names": list(names)})
            except (OSError, ValueError, TimeoutError):
                await self.stop()
                return {"problems": ["the process that checks settings has ended or did not answer, try once more"]}
            except BaseException:
                await self.stop()
                raise

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
        return dict(json.loads(await process.stdout.readline()))
