"""Questions to a resident process, see :mod:`ocr.console.resident`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ocr.console.jobs.queue import environment
from ocr.errors import UserError

LINE_BYTES = 50_000_000


class Resident:
    """A resident process: started when it is first asked, again when it has ended, and asked one question at a time.

    Args:
        kind: its argument, which functions it has.
        wait: seconds for an answer, imports included.
        temporary: folder for its temporary files: it is killed and cannot remove them.
    """

    def __init__(self, kind: str, wait: float, temporary: Path) -> None:
        self.kind, self.wait, self.temporary = kind, wait, temporary
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "ocr.console.resident", self.kind,
                stdin=pipe, stdout=pipe, limit=LINE_BYTES, env=environment() | {"TMPDIR": str(self.temporary)},
            )  # fmt: skip
        return self._process

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def ask(self, function: str, **arguments: Any) -> Any:
        """Call a function of the process and return its answer.

        A process that does not answer is ended: its answer would be taken for that to the next question. Who asks may
        go away: the answer is waited for all the same.

        Raises:
            UserError: of the function, or it has ended or did not answer in time.
        """
        return await asyncio.shield(asyncio.ensure_future(self._ask({"function": function, "arguments": arguments})))

    async def _ask(self, question: dict[str, Any]) -> Any:
        async with self._turn:
            process = await self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                async with asyncio.timeout(self.wait):
                    process.stdin.write(json.dumps(question).encode() + b"\n")
                    await process.stdin.drain()
                    answer = json.loads(await process.stdout.readline())
            except (OSError, ValueError, TimeoutError):
                await self.stop()
                words = f"the process for {self.kind} has ended or did not answer, try once more"
                raise UserError(words) from None
            except BaseException:
                await self.stop()
                raise
        if "error" in answer:
            raise UserError(answer["error"])
        return answer["result"]
