"""Compose: a form for a training, checked while it is filled in."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ocr.console.form import WANDB_MODES, Composition, described, names, read_command, read_form
from ocr.console.limits import refusals
from ocr.console.pages.site import Site
from ocr.errors import UserError


class ComposePages:
    """The form, its check, and the start of what it says."""

    def __init__(self, site: Site) -> None:
        self.site, self.settings = site, site.settings
        self.routes = [
            Route("/", self.compose),
            Route("/compose", self.start, methods=["POST"]),
            Route("/compose/check", self.check, methods=["POST"]),
            Route("/compose/parse", self.parse, methods=["POST"]),
        ]

    async def compose(self, request: Request) -> Response:
        return self._form(Composition(), [])

    def _form(self, given: Composition, problems: list[dict[str, str]]) -> Response:
        page = described(self.settings) | {"modes": list(WANDB_MODES), "given": given, "problems": problems}
        return self.site.page("compose.html", 422 if problems else 200, **page)

    async def _problems(self, composition: Composition) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """The problems, each with the setting that it is about, and what the resident process answered."""
        arguments = composition.arguments
        overrides = [word for word in arguments if word != "-m"]
        if refused := refusals(overrides, self.settings.folders, bool(composition.sweep)):
            return [{"key": key, "text": f"{key}: {reason}"} for key, reason in refused], {}
        try:
            answer = await self.site.checker.ask("check", arguments=arguments, names=names(self.settings))
        except UserError as error:
            answer = {"problems": [str(error)]}
        keys = sorted(composition.values, key=len, reverse=True)
        known = [*keys, *sorted(set(described(self.settings)["groups"]) - set(keys))]
        texts = answer["problems"]
        return [{"key": next((k for k in known if _names(k, text)), ""), "text": text} for text in texts], answer

    async def check(self, request: Request) -> Response:
        command = ""
        answer: dict[str, Any] = {}
        try:
            async with request.form() as form:
                composition = read_form(form, self.settings)
            problems, answer = await self._problems(composition)
            command = composition.command
        except UserError as error:
            problems = [{"key": "more", "text": str(error)}]
        known = {key: answer.get(key, {}) for key in ("values", "kinds")}
        return self.site.json({"command": command, "problems": problems, **known})

    async def parse(self, request: Request) -> Response:
        try:
            async with request.form() as form:
                composition = read_command(str(form.get("command", "")), self.settings)
        except UserError as error:
            return self.site.json({"problem": str(error)})
        given = {"set": composition.values, "wandb": composition.wandb, "sweep": composition.sweep}
        return self.site.json({**given, "more": composition.more_text})

    async def start(self, request: Request) -> Response:
        async with request.form() as form:
            composition = read_form(form, self.settings)
        problems, answer = await self._problems(composition)
        if problems:
            return self._form(composition, problems)
        gpus, sweep = int(answer["gpus"]), bool(composition.sweep)
        run = self.site.submit_training(composition.arguments, answer["name"], gpus, sweep)
        return RedirectResponse(f"/runs/{run}", 303)


def _names(key: str, text: str) -> bool:
    """Whether words on a problem are about a setting."""
    words = text.partition(", did you mean")[0]
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w]|\.\w)", words) is not None
