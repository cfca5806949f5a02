"""Look: a checkpoint's predictions on a split, beside its labels, for any thresholds."""

from __future__ import annotations

import itertools
import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ocr.console.limits import within
from ocr.console.pages.site import Site
from ocr.console.resident import SLIDERS

SPLITS = ("val", "test", "train")
LAYERS = ("thumb", "photo", "map")
MAX_RUNS, MAX_TILES = 200, 60
PICTURE_HEADERS = {"Cache-Control": "private, max-age=3600"}


class LookPages:
    """The page, and what its script asks the resident process."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.routes = [
            Route("/look", self.look),
            Route("/look/{id}/progress", self.progress),
            Route("/look/{id}/figures", self.figures),
            Route("/look/{id}/polygons", self.polygons),
            Route("/look/{id}/{layer}/{index}", self.picture),
            Route("/look/{id}/protocols", self.protocols, methods=["POST"]),
            Route("/look/{id}/keep", self.keep, methods=["POST"]),
        ]

    async def look(self, request: Request) -> Response:
        chosen = {key: request.query_params.get(key, "") for key in ("run", "with", "split", "checkpoint", "root")}
        every = {run.id: run for run in self.site.runs()}
        asked = [run for key in ("run", "with") if (run := every.pop(chosen[key], None))]
        runs = [run for run in [*asked, *itertools.islice(every.values(), MAX_RUNS)] if run.checkpoints]
        known = {run.id: run for run in runs}
        if chosen["with"] == chosen["run"]:
            chosen["with"] = ""
        if chosen["split"] not in SPLITS:
            chosen["split"] = SPLITS[0]
        run, other = known.get(chosen["run"]), known.get(chosen["with"])
        if (chosen["run"] and run is None) or (chosen["with"] and other is None):
            raise HTTPException(404, "there is no such run, or it has no checkpoint")
        if run is not None and chosen["checkpoint"] not in run.checkpoints:
            chosen["checkpoint"] = next(iter(run.checkpoints))
        return self.site.page("look.html", runs=runs, run=run, other=other, chosen=chosen, splits=SPLITS)

    async def _ask(self, request: Request, question: str, **arguments: Any) -> Any:
        """The answer of the resident process for the predictions that an address means."""
        run, settings = self.site.known_run(request), self.site.settings
        split, root = request.query_params.get("split", SPLITS[0]), request.query_params.get("root", "")
        file = run.checkpoints.get(request.query_params.get("checkpoint") or next(iter(run.checkpoints), ""))
        if file is None or split not in SPLITS:
            raise HTTPException(404, "there is no such checkpoint or split")
        if root and not within(root, settings.folders):
            raise HTTPException(422, f"{root} is in none of the folders that this console was started for")
        view = {"checkpoint": str(file), "split": split, "root": root, "accelerator": settings.accelerator,
                "folders": [str(folder) for folder in settings.folders]}  # fmt: skip
        return await self.site.detectors.ask("look", view=view, question=question, **arguments)

    async def progress(self, request: Request) -> Response:
        images = _number(request.query_params.get("images", "")) or 0
        return self.site.json(await self._ask(request, "advance", images=images))

    async def figures(self, request: Request) -> Response:
        whole = "whole" in request.query_params
        return self.site.json(await self._ask(request, "figures", sliders=_sliders(request), whole=whole))

    async def polygons(self, request: Request) -> Response:
        given = request.query_params.get("of", "").split(",")[:MAX_TILES]
        indices = [index for text in given if (index := _number(text)) is not None]
        return self.site.json(await self._ask(request, "polygons", sliders=_sliders(request), indices=indices))

    async def picture(self, request: Request) -> Response:
        layer, text = request.path_params["layer"], request.path_params["index"]
        if layer not in LAYERS or (index := _number(text)) is None:
            raise HTTPException(404, "there is no such picture")
        file = await self._ask(request, "picture", index=index, layer=layer)
        return FileResponse(file, headers=PICTURE_HEADERS)

    async def protocols(self, request: Request) -> Response:
        restart = "restart" in request.query_params
        return self.site.json(await self._ask(request, "evaluate", sliders=_sliders(request), restart=restart))

    async def keep(self, request: Request) -> Response:
        return self.site.json({"file": await self._ask(request, "keep", sliders=_sliders(request))})


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _sliders(request: Request) -> dict[str, float]:
    """Thresholds in an address; those that are missing stay as they are stored.

    Raises:
        HTTPException: one is no number.
    """
    sliders = {}
    for name in SLIDERS:
        if text := request.query_params.get(name):
            try:
                sliders[name] = float(text)
            except ValueError:
                sliders[name] = math.nan
            if not math.isfinite(sliders[name]):
                raise HTTPException(422, f"{name} must be a number")
    return sliders
