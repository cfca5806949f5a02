"""Runs: the list, each run while it goes on and after, and some beside one another."""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ocr.console.jobs.load import machine_load
from ocr.console.jobs.queue import SYNC, QueuedJob, jobs_of, read_text
from ocr.console.jobs.runs import CURVES, LIVE, Run
from ocr.console.jobs.sweeps import leaderboard
from ocr.console.pages.site import Site
from ocr.jobs.command_line.overrides import text_of

PAGE_SIZE = 50
LOG_TAIL = 2000  # bytes of what a sync has said


class RunPages:
    """Everything about local runs."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.routes = [
            Route("/runs", self.runs),
            Route("/compare", self.compare),
            Route("/runs/{id}", self.run),
            Route("/runs/{id}/live", self.live),
            Route("/runs/{id}/{action}", self.act, methods=["POST"]),
        ]

    async def runs(self, request: Request) -> Response:
        text, archived = request.query_params.get("find", ""), "archived" in request.query_params
        listed = [run for run in self.site.runs() if text.lower() in run.name.lower()]
        listed = [run for run in listed if archived or not run.notes["archived"]]
        number = int(page) if re.fullmatch(r"[1-9][0-9]{0,5}", page := request.query_params.get("page", "1")) else 1
        pages = max(1, -(-len(listed) // PAGE_SIZE))
        shown = listed[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        return self.site.page(
            "runs.html", runs=shown, total=len(listed), number=number, pages=pages, find=text, archived=archived
        )  # fmt: skip

    async def run(self, request: Request) -> Response:
        return self.site.page("run.html", **await self._shown(request))

    async def live(self, request: Request) -> Response:
        return self.site.page("live.html", **await self._shown(request))

    async def _shown(self, request: Request) -> dict[str, Any]:
        run = self.site.run(request)
        live, sync = run.state in LIVE, self._sync_of(run)
        said = "" if sync is None else read_text(sync.folder / "output.log", LOG_TAIL) or "sending ..."
        load = await asyncio.to_thread(machine_load) if live else ""
        ranking = leaderboard(run.folder, self.site.settings.runs_folder) if run.is_sweep else None
        sending = sync is not None and sync.state in LIVE
        return {"run": run, "live": live, "load": load, "sending": sending, "sync": said, "ranking": ranking}

    def _sync_of(self, run: Run) -> QueuedJob | None:
        """The newest job that sends a run's W&B record."""
        syncs = [job for job in jobs_of(self.site.settings.runs_folder, SYNC) if job.run == run.folder]
        return syncs[-1] if syncs else None

    def _send(self, run: Run) -> None:
        """Send its W&B record by ``runners/sync.py``."""
        sync = self._sync_of(run)
        if run.wandb.get("state") in (None, "running", "uploaded") or (sync is not None and sync.state in LIVE):
            raise HTTPException(409, "there is nothing to send, or it is being sent")
        self.site.submit("sync.py", [str(run.folder)], run.folder, kind=SYNC)

    async def act(self, request: Request) -> Response:
        run, action = self.site.run(request), request.path_params["action"]
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
        elif action == "sync":
            self._send(run)
        elif action == "resume":
            return await self._resume(run)
        elif action == "delete":
            if run.state in LIVE:
                raise HTTPException(409, "stop it first")
            if given.get("confirm") != run.folder.name:
                raise HTTPException(422, f"to delete it, type the name of its folder: {run.folder.name}")
            others = [other for other in self.site.runs() if run.folder in other.folder.parents]
            if others and not run.is_sweep:
                raise HTTPException(409, f"it has another run in its folder: {others[0].name}")
            if live := [other.name for other in others if other.state in LIVE]:
                raise HTTPException(409, f"stop {live[0]} first")
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
        arguments = [f"resume={text_of(str(run.folder))}", f"name={text_of(name)}"]
        gpus = run.job.content["gpus"] if run.job else 1
        return RedirectResponse(f"/runs/{self.site.submit_training(arguments, name, gpus)}", 303)

    async def compare(self, request: Request) -> Response:
        ids = request.query_params.getlist("id")[:6]
        runs = [run for run in self.site.runs() if run.id in ids]
        if len(runs) < 2:
            raise HTTPException(422, "choose two to six runs in the list")
        keys = sorted({key for run in runs for key in run.settings})
        rows = {key: [run.settings.get(key, "") for run in runs] for key in keys}
        differing = {key: values for key, values in rows.items() if len(set(values)) > 1}
        curves = {key: {run.name: run.curves[key] for run in runs} for key in CURVES}
        return self.site.page("compare.html", runs=runs, rows=differing, curves=curves)
