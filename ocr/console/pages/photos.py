"""Try: the text of a dropped picture, and what was found wrongly kept for labelling."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from ocr.console.pages.site import Site
from ocr.data.formats.writers import label_line, writable, write_labels
from ocr.types import Truth
from ocr.utils.files import write_atomic

MAX_PICTURES = 20  # pictures, until older ones are removed
TO_LABEL = "to_label"  # folder within that of the runs
MAX_RUNS = 50


class PhotoPages:
    """The form, and a page per picture that was dropped."""

    def __init__(self, site: Site) -> None:
        self.site, self.settings = site, site.settings
        self.held: dict[str, dict[str, Any]] = {}
        self.routes = [
            Route("/try", self.form),
            Route("/try", self.drop, methods=["POST"]),
            Route("/try/{id}", self.result),
            Route("/try/{id}/keep", self.keep, methods=["POST"]),
            Route("/try/{id}/{file}", self.file),
        ]

    def _detectors(self) -> dict[str, tuple[str, str]]:
        """(words, what the resident process takes) by the value of the choice."""
        stock = {name: (f"{name}, as published", name) for name in self.settings.detectors}
        runs = [run for run in self.site.runs() if run.checkpoints][:MAX_RUNS]
        return stock | {run.id: (run.name, str(next(iter(run.checkpoints.values())))) for run in runs}

    def _page(self, held: dict[str, Any] | None = None, said: str = "") -> Response:
        choices = {value: words for value, (words, _) in self._detectors().items()}
        limits = f"at most {self.settings.upload_mb} MB and {self.settings.upload_megapixels} megapixels"
        return self.site.page(
            "try.html", detectors=choices, held=held, limits=limits, formats=[*writable()], said=said,
            megabytes=self.settings.upload_mb,
        )  # fmt: skip

    async def form(self, request: Request) -> Response:
        return self._page()

    async def drop(self, request: Request) -> Response:
        async with request.form(max_files=1, max_fields=5) as form:
            photo, chosen = form.get("photo"), form.get("detector")
            detectors = self._detectors()
            if not isinstance(photo, UploadFile) or not photo.filename or chosen not in detectors:
                raise HTTPException(422, "choose a picture and a detector")
            held: dict[str, Any] = {"id": secrets.token_hex(8), "name": photo.filename[:200]}
            held["detector"] = detectors[str(chosen)][0]
            path = self.site.uploads / held["id"]
            path.write_bytes(await photo.read())
        began = time.perf_counter()
        try:
            held["found"] = await self.site.detectors.ask(
                "find_text", checkpoint=detectors[str(chosen)][1], photo=str(path),
                max_pixels=self.settings.upload_megapixels * 10**6, accelerator=self.settings.accelerator,
            )  # fmt: skip
        except BaseException:
            path.unlink()
            raise
        held["waited"] = time.perf_counter() - began
        while len(self.held) >= MAX_PICTURES:
            for file in self.site.uploads.glob(f"{self.held.pop(next(iter(self.held)))['id']}*"):
                file.unlink()
        self.held[held["id"]] = held | {"chosen": chosen, "path": path}
        return RedirectResponse(f"/try/{held['id']}", 303)

    def _held(self, request: Request) -> dict[str, Any]:
        held = self.held.get(request.path_params["id"])
        if held is None:
            raise HTTPException(404, "this picture is no longer held: drop it once more")
        return held

    async def result(self, request: Request) -> Response:
        return self._page(self._held(request))

    async def file(self, request: Request) -> Response:
        held, name = self._held(request), request.path_params["file"]
        stem = Path(held["name"]).stem.encode("ascii", "replace").decode().replace("?", "_") or "picture"
        stem = re.sub(r"[^\w. -]", "_", stem)
        if name == "predictions.json":
            content = {"image": held["name"], **held["found"]}
            answer = self.site.json(content)
            answer.headers["Content-Disposition"] = f'attachment; filename="{stem}.json"'
            return answer
        if name == "overlay.jpg":
            return FileResponse(f"{held['path']}.overlay.jpg", filename=f"{stem}_text.jpg")
        if name == "shown.jpg":
            return FileResponse(f"{held['path']}.shown.jpg")
        raise HTTPException(404, "there is no such picture")

    async def keep(self, request: Request) -> Response:
        """Add the picture to those to label, with its polygons as labels to correct."""
        held = self._held(request)
        async with request.form() as form:
            name = str(form.get("format", ""))
        if name not in writable():
            raise HTTPException(422, "the form has a choice that the page does not offer")
        folder = self.settings.runs_folder / TO_LABEL / name
        if not writable()[name].per_image:  # a file for all images, in which somebody may be working
            folder /= held["id"]
        target = folder / "images" / f"{held['id']}.jpg"
        if target.exists():
            raise HTTPException(409, f"it is in {folder} already, perhaps with your corrections")
        text = held["found"]
        polygons = [np.array(polygon, np.float32) for polygon in text["polygons"]]
        truth = Truth(polygons, np.zeros(len(polygons), bool), [""] * len(polygons))
        line = label_line(target.name, text["width"], text["height"], truth)
        write_labels(writable()[name], [line], [target.name], folder, "labels")
        write_atomic(target, Path(f"{held['path']}.shown.jpg").read_bytes())
        words = f"{target.name} and its {len(polygons)} polygon(s) are in {folder}"
        return self._page(held, words)
