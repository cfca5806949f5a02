"""Parts that all pages share: settings, templates, the resident processes and the queue."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ocr.console.jobs.queue import TRAINING, submit
from ocr.console.jobs.runs import Run, find_runs, id_of
from ocr.console.pages.charts import line_chart
from ocr.console.resident.client import Resident
from ocr.console.settings import ConsoleSettings
from ocr.errors import UserError
from ocr.jobs.command_line.overrides import CONFIGS, text_of
from ocr.tracking.secrets import Redactor

RUNNERS = CONFIGS.parent / "runners"
CHECK_SECONDS, DETECTOR_SECONDS = 120, 900  # for an answer; a large set is indexed before its first


class Site:
    """One console.

    Attributes:
        checker: the resident process that checks settings.
        detectors: the one that runs detectors.
        uploads: folder of dropped pictures and of all that is there until the end.
    """

    def __init__(self, settings: ConsoleSettings) -> None:
        self.settings = settings
        self.uploads = Path(tempfile.mkdtemp(prefix="console_"))
        self.checker = Resident("settings", CHECK_SECONDS, self.uploads)
        self.detectors = Resident("detectors", DETECTOR_SECONDS, self.uploads)
        self._known: dict[str, Run] = {}  # by id
        loader = PackageLoader("ocr.console")
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        self.templates.globals.update(chart=line_chart, zip=zip)

    def close(self) -> None:
        """Remove what was uploaded."""
        shutil.rmtree(self.uploads, ignore_errors=True)

    def page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A page of a template."""
        text = Redactor(os.environ).text(self.templates.get_template(name).render(**values))
        return HTMLResponse(text.encode("utf-8", "replace"), status)  # names of folders may be no text

    def json(self, content: Any) -> Response:
        """An answer to a script of a page."""
        return Response(Redactor(os.environ).text(json.dumps(content)), media_type="application/json")

    async def failed(self, request: Request, error: Exception) -> Response:
        """The page, or the answer to a script, that says what is wrong."""
        status, message = 500, "the console failed; its terminal has the traceback"
        if isinstance(error, HTTPException):
            status, message = error.status_code, error.detail
        elif isinstance(error, UserError):
            status, message = 400, str(error)
        if request.headers.get("accept") == "application/json":
            answer = self.json({"error": message})
            answer.status_code = status
            return answer
        return self.page("error.html", status, message=message)

    def runs(self) -> list[Run]:
        """All runs that this console shows, the newest first."""
        return find_runs(self.settings.runs_folder, self.settings.all_users)

    def run(self, request: Request) -> Run:
        """The run that an address names by its id.

        Raises:
            HTTPException: there is none.
        """
        run_id = request.path_params["id"]
        for run in self.runs():
            if run.id == run_id:
                return run
        raise HTTPException(404, "there is no such run")

    def known_run(self, request: Request) -> Run:
        """:meth:`run`, without looking for one that was found before: for a page's many pictures."""
        known = self._known.get(request.path_params["id"])
        if known is None or not known.folder.is_dir() or known.folder.is_symlink():
            known = self._known[request.path_params["id"]] = self.run(request)
        return known

    def submit_training(self, arguments: Sequence[str], name: str, gpus: int, sweep: bool = False) -> str:
        """Put a training into the queue; the id of its run."""
        stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"
        folder = self.settings.runs_folder / name / (f"sweep_{stamp}" if sweep else stamp)
        run_dir = f"hydra.{'sweep' if sweep else 'run'}.dir={text_of(str(folder))}"
        output = f"paths.output={text_of(str(self.settings.runs_folder))}"
        return self.submit("train.py", [*arguments, output, run_dir], folder, 0 if sweep else gpus)

    def submit(self, runner: str, arguments: Sequence[str], folder: Path, gpus: int = 0, kind: str = TRAINING) -> str:
        """Put a runner's job into the queue; the id of its run folder."""
        submit(self.settings.runs_folder, [sys.executable, str(RUNNERS / runner), *arguments], folder, gpus, kind)
        return id_of(folder.relative_to(self.settings.runs_folder).as_posix())
