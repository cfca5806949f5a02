"""Data: the audit of a labelled set, its page and its list to re-label."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
import zipfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ocr.console.jobs.queue import AUDIT, QueuedJob, jobs_of, read_json, read_text
from ocr.console.jobs.runs import LIVE, folders_in, id_of
from ocr.console.limits import options_of, refusals
from ocr.console.pages.site import Site
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
        self.routes = [
            Route("/data", self.form),
            Route("/data", self.start, methods=["POST"]),
            Route("/data/{id}", self.audit),
            Route("/data/{id}/live", self.live),
            Route("/data/{id}/stop", self.stop, methods=["POST"]),
            Route("/data/{id}/report", self.report),
            Route("/data/{id}/relabel.zip", self.relabel),
        ]

    def _audits(self) -> dict[str, tuple[Path, QueuedJob | None]]:
        """Folders of audits, each with its job if this console has started it, by id, the newest first."""
        jobs = {job.run: job for job in jobs_of(self.site.settings.runs_folder, AUDIT)}
        folders = folders_in(self.folder, self.site.settings.all_users)
        folders = [folder for folder in folders if folder in jobs or (folder / "audit.json").is_file()]
        folders.sort(key=lambda folder: -folder.stat().st_mtime)
        return {id_of(folder.name): (folder, jobs.get(folder)) for folder in folders}

    def _sets(self) -> list[str]:
        return [name for name in options_of("data") if name != "checkpoint"]

    async def form(self, request: Request) -> Response:
        roots = [str(folder) for folder in self.site.settings.folders[1:]]
        audits = [(id, folder.name) for id, (folder, _) in self._audits().items()][:50]
        return self.site.page("data.html", sets=self._sets(), roots=roots, formats=[*writable()], audits=audits)

    async def start(self, request: Request) -> Response:
        async with request.form() as form:
            given = {key: str(value) for key, value in form.items()}
        known = {"data": self._sets(), "format": [*writable()], "kind": ["", "quick", "witness"]}
        if wrong := [key for key, choices in known.items() if given.get(key, "") not in choices]:
            raise HTTPException(422, f"{wrong[0]}: the form has a choice that the page does not offer")
        overrides = [f"data={given['data']}", f"data.root={text_of(given.get('root', ''))}"]
        if not given.get("root"):
            raise HTTPException(422, "name a folder")
        if refused := refusals(overrides, self.site.settings.folders):
            raise HTTPException(422, "; ".join(f"{key}: {reason}" for key, reason in refused))
        kinds = {"quick": ["quick=true"], "witness": ["witness=true", f"witness_format={given['format']}"]}
        overrides += kinds.get(given.get("kind", ""), [])
        output = self.folder / f"{given['data']}_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"
        output.mkdir(parents=True)
        self.site.submit("audit.py", [*overrides, f"output={text_of(str(output))}"], output, kind=AUDIT)
        return RedirectResponse(f"/data/{id_of(output.name)}", 303)

    def _found(self, request: Request) -> tuple[str, Path, QueuedJob | None]:
        id = request.path_params["id"]
        if id not in (audits := self._audits()):
            raise HTTPException(404, "there is no such audit")
        return id, *audits[id]

    async def stop(self, request: Request) -> Response:
        id, _, job = self._found(request)
        if job is not None:
            job.stop()
        return RedirectResponse(f"/data/{id}", 303)

    def _shown(self, request: Request) -> dict[str, Any]:
        id, folder, job = self._found(request)
        result = read_json(folder / "audit.json")
        problems = result.get("problems")
        return {
            "id": id, "folder": folder, "live": job is not None and job.state in LIVE,
            "problems": problems if isinstance(problems, dict) else {}, "done": bool(result),
            "report": (folder / "audit.html").is_file(), "doubts": read_text(folder / "relabel/doubts.txt")[:DOUBTS],
            "log": read_text(job.folder / "output.log", LOG_TAIL).split("\r")[-1] if job else "",
        }  # fmt: skip

    async def audit(self, request: Request) -> Response:
        return self.site.page("audit.html", **self._shown(request))

    async def live(self, request: Request) -> Response:
        return self.site.page("audit_live.html", **self._shown(request))

    async def report(self, request: Request) -> Response:
        _, folder, _ = self._found(request)
        text = read_text(folder / "audit.html")
        if not text:
            raise HTTPException(404, "this audit has no page")
        return HTMLResponse(Redactor(os.environ).text(text), headers=REPORT_HEADERS)

    async def relabel(self, request: Request) -> Response:
        _, folder, _ = self._found(request)
        source = folder / "relabel"
        if not source.is_dir() or source.is_symlink():
            raise HTTPException(404, "this audit has no list to re-label")
        target = self.site.uploads / f"relabel_{secrets.token_hex(8)}.zip"
        await asyncio.to_thread(pack, source, target)
        return FileResponse(target, filename="relabel.zip", background=BackgroundTask(target.unlink))


def pack(folder: Path, target: Path) -> None:
    """Write the regular files of a folder into a zip; links are left out."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for parent, _, names in os.walk(folder):
            for path in sorted(Path(parent, name) for name in names):
                if path.is_file() and not path.is_symlink():
                    name = path.relative_to(folder).as_posix().encode("utf-8", "replace").decode()
                    archive.write(path, name)
