"""Data: the audit of a labelled set, its page and its list to re-label."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ocr.console.jobs.queue import read_json
from ocr.console.jobs.runs import id_of
from ocr.console.limits import options_of, refusals
from ocr.console.pages.site import RUNNERS, Site
from ocr.data.formats.writers import writable
from ocr.jobs.command_line.overrides import text_of
from ocr.tracking.secrets import Redactor

FOLDER = "audit"  # of all audits, in that of the runs
LOG_TAIL, DOUBTS = 5000, 100_000  # characters shown
# the report is a page of its own, with inline style and pictures in its text; it runs no script and links nowhere
REPORT_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'; sandbox",
    "X-Frame-Options": "SAMEORIGIN",
}


class DataPages:
    """The form, and a page per audit."""

    def __init__(self, site: Site) -> None:
        self.site, self.folder = site, site.settings.runs_folder / FOLDER
        self._running: dict[str, asyncio.subprocess.Process] = {}  # by id
        self.routes = [
            Route("/data", self.form),
            Route("/data", self.start, methods=["POST"]),
            Route("/data/{id}", self.audit),
            Route("/data/{id}/live", self.live),
            Route("/data/{id}/report", self.report),
            Route("/data/{id}/relabel.zip", self.relabel),
        ]

    def _audits(self) -> dict[str, Path]:
        """Folders of audits by id, the newest first."""
        folders = [path for path in self.folder.glob("*") if path.is_dir() and not path.is_symlink()]
        return {id_of(path.name): path for path in sorted(folders, key=lambda path: -path.stat().st_mtime)}

    async def form(self, request: Request) -> Response:
        sets = [name for name in options_of("data") if name != "checkpoint"]
        roots = [str(folder) for folder in self.site.settings.folders[1:]]
        audits = [(id, path.name) for id, path in self._audits().items()][:50]
        return self.site.page("data.html", sets=sets, roots=roots, formats=[*writable()], audits=audits)

    async def start(self, request: Request) -> Response:
        async with request.form() as form:
            given = {key: str(value) for key, value in form.items()}
        overrides = [f"data={given.get('data', '')}", f"data.root={text_of(given.get('root', ''))}"]
        if not given.get("root") or given.get("format", "") not in writable():
            raise HTTPException(422, "name a folder, and a format of the page")
        if refused := refusals(overrides, self.site.settings.folders):
            raise HTTPException(422, "; ".join(f"{key}: {reason}" for key, reason in refused))
        kind = given.get("kind", "")
        overrides += {"quick": ["quick=true"], "witness": ["witness=true", f"witness_format={given['format']}"]}.get(
            kind, []
        )
        output = self.folder / f"{given['data']}_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"
        output.mkdir(parents=True)
        command = [sys.executable, str(RUNNERS / "audit.py"), *overrides, f"output={text_of(str(output))}"]
        with (output / "output.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=asyncio.subprocess.STDOUT
            )
        id = id_of(output.name)
        self._running[id] = process
        return RedirectResponse(f"/data/{id}", 303)

    def _folder(self, request: Request) -> tuple[str, Path]:
        id = request.path_params["id"]
        folder = self._audits().get(id)
        if folder is None:
            raise HTTPException(404, "there is no such audit")
        return id, folder

    def _shown(self, request: Request) -> dict[str, Any]:
        id, folder = self._folder(request)
        process = self._running.get(id)
        doubts, log = folder / "relabel/doubts.txt", folder / "output.log"
        result = read_json(folder / "audit.json")
        problems = result.get("problems")
        return {
            "id": id, "folder": folder,
            "live": process is not None and process.returncode is None,
            "problems": problems if isinstance(problems, dict) else {}, "done": bool(result),
            "report": (folder / "audit.html").is_file(),
            "doubts": doubts.read_text(errors="replace")[:DOUBTS] if doubts.is_file() else "",
            "log": log.read_text(errors="replace")[-LOG_TAIL:].split("\r")[-1] if log.is_file() else "",
        }  # fmt: skip

    async def audit(self, request: Request) -> Response:
        return self.site.page("audit.html", **self._shown(request))

    async def live(self, request: Request) -> Response:
        return self.site.page("audit_live.html", **self._shown(request))

    async def report(self, request: Request) -> Response:
        _, folder = self._folder(request)
        if not (folder / "audit.html").is_file():
            raise HTTPException(404, "this audit has no page")
        text = Redactor(os.environ).text((folder / "audit.html").read_text(errors="replace"))
        return HTMLResponse(text, headers=REPORT_HEADERS)

    async def relabel(self, request: Request) -> Response:
        id, folder = self._folder(request)
        if not (folder / "relabel").is_dir():
            raise HTTPException(404, "this audit has no list to re-label")
        archive = await asyncio.to_thread(
            shutil.make_archive, str(self.site.uploads / f"relabel_{id}"), "zip", folder / "relabel"
        )
        return FileResponse(archive, filename="relabel.zip")
