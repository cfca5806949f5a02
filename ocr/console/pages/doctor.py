"""Doctor: the lines of ``runners/doctor.py``."""

from __future__ import annotations

import asyncio
import json
import sys

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ocr.console.pages.site import RUNNERS, Site


class DoctorPages:
    """The page, and its lines, which take some seconds."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.routes = [Route("/doctor", self.doctor), Route("/doctor/lines", self.lines)]

    async def doctor(self, request: Request) -> Response:
        return self.site.page("doctor.html")

    async def lines(self, request: Request) -> Response:
        command = [sys.executable, str(RUNNERS / "doctor.py"), "--json"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return self.site.page("doctor_lines.html", checks=json.loads(output)["checks"])
