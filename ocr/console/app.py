"""The web application: pages, and what their forms start, stop and keep."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ocr.console.charts import line_chart
from ocr.console.checker import Checker
from ocr.console.form import WANDB_MODES, Composition, described, names, read_command, read_form
from ocr.console.guard import Guard
from ocr.console.limits import refusals
from ocr.console.queue import submit
from ocr.console.runs import LIVE, Run, find_runs, id_of
from ocr.console.settings import ConsoleSettings
from ocr.errors import UserError
from ocr.jobs.command_line.overrides import CONFIGS, text_of
from ocr.tracking.secrets import Redactor

PAGE_SIZE = 50
RUNNERS = CONFIGS.parent / "runners"
STATIC = Path(__file__).parent / "static"


class Console:
    """The pages of one console.

    Args:
        settings: its own.
    """

    def __init__(self, settings: ConsoleSettings) -> None:
        self.settings, self.checker = settings, Checker()
        loader = PackageLoader("ocr.console")
        self.templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
        self.templates.globals["chart"] = line_chart
        self.routes = [
            Route("/", self.compose),
            Route("/compose", self.start, methods=["POST"]),
            Route("/compose/check", self.check, methods=["POST"]),
            Route("/compose/parse", self.parse, methods=["POST"]),
            Route("/runs", self.runs),
            Route("/compare", self.compare),
            Route("/runs/{id}", self.run),
            Route("/runs/{id}/live", self.live),
            Route("/runs/{id}/{action}", self.act, methods=["POST"]),
            Route("/doctor", self.doctor),
            Route("/doctor/lines", self.doctor_lines),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.checker.start()
        yield
        await self.checker.stop()

    def page(self, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        text = Redactor(os.environ).text(self.templates.get_template(name).render(**values))
        return HTMLResponse(text.encode("utf-8", "replace"), status)  # names of folders may be no text

    def json(self, content: Any) -> Response:
        return Response(Redactor(os.environ).text(json.dumps(content)), media_type="application/json")

    async def failed(self, request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return self.page("error.html", error.status_code, message=error.detail)
        if isinstance(error, UserError):
            return self.page("error.html", 400, message=str(error))
        return self.page("error.html", 500, message="the console failed; its terminal has the traceback")

    # Compose

    async def compose(self, request: Request) -> Response:
        return self._form(Composition(), [])

    def _form(self, given: Composition, problems: list[dict[str, str]]) -> Response:
        page = described(self.settings) | {"modes": list(WANDB_MODES), "given": given, "problems": problems}
        return self.page("compose.html", 422 if problems else 200, **page)

    async def _problems(self, composition: Composition) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """What is wrong, each with the setting that it is about, and what the resident process answered."""
        arguments, multirun = composition.arguments, bool(composition.sweep)
        overrides = [word for word in arguments if word != "-m"]
        refused = refusals(overrides, self.settings.folders, multirun)
        if refused:
            return [{"key": key, "text": f"{key}: {reason}"} for key, reason in refused], {}
        answer = await self.checker.check(arguments, names(self.settings))
        keys = sorted(composition.values, key=len, reverse=True)
        known = [*keys, *sorted(set(described(self.settings)["groups"]) - set(keys))]
        texts = answer["problems"]
        return [{"key": next((k for k in known if _names(k, text)), ""), "text": text} for text in texts], answer

    async def check(self, request: Request) -> Response:
        try:
            async with request.form() as form:
                composition = read_form(form, self.settings)
            problems, answer = await self._problems(composition)
        except UserError as error:
            return self.json({"command": "", "problems": [{"key": "more", "text": str(error)}], "values": {}})
        return self.json({"command": composition.command, "problems": problems, "values": answer.get("values", {})})

    async def parse(self, request: Request) -> Response:
        try:
            async with request.form() as form:
                composition = read_command(str(form.get("command", "")), self.settings)
        except UserError as error:
            return self.json({"problem": str(error)})
        given = {"set": composition.values, "wandb": composition.wandb, "sweep": composition.sweep}
        return self.json({**given, "more": composition.more_text})

    async def start(self, request: Request) -> Response:
        async with request.form() as form:
            composition = read_form(form, self.settings)
        problems, answer = await self._problems(composition)
        if problems:
            return self._form(composition, problems)
        run = self._submit(composition.arguments, answer, bool(composition.sweep))
        return RedirectResponse(f"/runs/{run}", 303)

    def _submit(self, arguments: list[str], answer: dict[str, Any], sweep: bool = False) -> str:
        """Put a training into the queue; the id of its run."""
        stamp = f"{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(3)}"
        folder = self.settings.runs_folder / answer["name"] / (f"sweep_{stamp}" if sweep else stamp)
        place = f"hydra.{'sweep' if sweep else 'run'}.dir={text_of(str(folder))}"
        output = f"paths.output={text_of(str(self.settings.runs_folder))}"
        command = [sys.executable, str(RUNNERS / "train.py"), *arguments, output, place]
        submit(self.settings.runs_folder, command, folder, 0 if sweep else int(answer["gpus"]))
        return id_of(folder.relative_to(self.settings.runs_folder).as_posix())

    # Runs

    def _all(self) -> list[Run]:
        return find_runs(self.settings.runs_folder, self.settings.all_users)

    def _run(self, request: Request) -> Run:
        wanted = request.path_params["id"]
        for run in self._all():
            if run.id == wanted:
                return run
        raise HTTPException(404, "there is no such run")

    async def runs(self, request: Request) -> Response:
        text, archived = request.query_params.get("find", ""), "archived" in request.query_params
        found = [run for run in self._all() if text.lower() in run.name.lower()]
        found = [run for run in found if archived or not run.notes["archived"]]
        number = int(page) if re.fullmatch(r"[1-9][0-9]{0,5}", page := request.query_params.get("page", "1")) else 1
        pages = max(1, -(-len(found) // PAGE_SIZE))
        shown = found[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        return self.page(
            "runs.html", runs=shown, total=len(found), number=number, pages=pages, find=text, archived=archived
        )  # fmt: skip

    async def run(self, request: Request) -> Response:
        return self.page("run.html", run=(run := self._run(request)), live=run.state in LIVE)

    async def live(self, request: Request) -> Response:
        return self.page("live.html", run=(run := self._run(request)), live=run.state in LIVE)

    async def act(self, request: Request) -> Response:
        run, action = self._run(request), request.path_params["action"]
        async with request.form() as form:
            given = {key: str(value) for key, value in form.items()}
        if action == "stop":
            if run.job is None or run.state not in LIVE:
                raise HTTPException(409, "only what this console has started can be stopped here, while it runs")
            run.job.stop()
        elif action == "notes":
            run.write_notes(notes=given.get("notes", "")[:5000], tags=given.get("tags", "")[:500])
        elif action == "archive":
            run.write_notes(archived=not run.notes["archived"])
        elif action == "resume":
            return await self._resume(run)
        elif action == "delete":
            if run.state in LIVE:
                raise HTTPException(409, "stop it first")
            if given.get("confirm") != run.folder.name:
                raise HTTPException(422, f"to delete it, type the name of its folder: {run.folder.name}")
            if others := [other.name for other in self._all() if run.folder in other.folder.parents]:
                raise HTTPException(409, f"it has another run in its folder: {others[0]}")
            for folder in (run.folder, *([run.job.folder] if run.job else [])):
                if folder.exists():
                    shutil.rmtree(folder)
            return RedirectResponse("/runs", 303)
        else:
            raise HTTPException(404, "there is no such page")
        return RedirectResponse(f"/runs/{run.id}", 303)

    async def _resume(self, run: Run) -> Response:
        if not run.can_resume:
            raise HTTPException(409, "there is no checkpoint to go on from, or it still runs")
        name = "/".join(part for part in run.name.split("/")[:-1] if not part.startswith("sweep_")) or "resumed"
        answer = {"name": name, "gpus": run.job.content["gpus"] if run.job else 1}
        arguments = [f"resume={text_of(str(run.folder))}", f"name={text_of(name)}"]
        return RedirectResponse(f"/runs/{self._submit(arguments, answer)}", 303)

    async def compare(self, request: Request) -> Response:
        wanted = request.query_params.getlist("id")[:6]
        runs = [run for run in self._all() if run.id in wanted]
        if len(runs) < 2:
            raise HTTPException(422, "choose two to six runs in the list")
        keys = sorted({key for run in runs for key in run.settings})
        rows = {key: [run.settings.get(key, "") for run in runs] for key in keys}
        differing = {key: values for key, values in rows.items() if len(set(values)) > 1}
        curves = {key: {run.name: run.curves()[key] for run in runs} for key in ("train/loss", "val/hmean")}
        return self.page("compare.html", runs=runs, rows=differing, curves=curves)

    # Doctor

    async def doctor(self, request: Request) -> Response:
        return self.page("doctor.html")

    async def doctor_lines(self, request: Request) -> Response:
        command = [sys.executable, str(RUNNERS / "doctor.py"), "--json"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return self.page("doctor_lines.html", checks=json.loads(output)["checks"])


def _names(key: str, text: str) -> bool:
    """Whether words on a problem are about a setting."""
    words = text.partition(", did you mean")[0]
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\w)", words) is not None


def create_app(settings: ConsoleSettings, token: str, port: int) -> Starlette:
    """The application.

    Args:
        settings: of the console.
        token: that each request must bring.
        port: that it is served at.
    """
    console = Console(settings)
    names = {"127.0.0.1", "localhost", "[::1]", settings.host, *settings.allowed_hosts} - {"0.0.0.0", "::"}  # noqa: S104
    hosts = [f"{name}:{port}" for name in names]
    guard = Middleware(Guard, token=token, hosts=hosts, cookie=f"console_{port}")
    handlers: Any = {HTTPException: console.failed, UserError: console.failed, Exception: console.failed}
    return Starlette(
        routes=console.routes, middleware=[guard], exception_handlers=handlers, lifespan=console.lifespan
    )  # fmt: skip
