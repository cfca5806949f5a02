"""The web application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from ocr.console.guard import Guard
from ocr.console.pages.compose import ComposePages
from ocr.console.pages.data import DataPages
from ocr.console.pages.doctor import DoctorPages
from ocr.console.pages.look import LookPages
from ocr.console.pages.photos import PhotoPages
from ocr.console.pages.runs import RunPages
from ocr.console.pages.site import Site
from ocr.console.settings import ConsoleSettings
from ocr.errors import UserError

STATIC = Path(__file__).parent / "static"
PAGES = (ComposePages, RunPages, LookPages, PhotoPages, DataPages, DoctorPages)


def create_app(settings: ConsoleSettings, token: str, port: int) -> Starlette:
    """The application, served at a port; each request must bring the token."""
    site = Site(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await site.checker.stop()
        await site.detectors.stop()
        site.close()

    names = {"127.0.0.1", "localhost", "[::1]", settings.host, *settings.allowed_hosts} - {"0.0.0.0", "::"}  # noqa: S104
    hosts = [f"{name}:{port}" for name in names]
    guard = Middleware(
        Guard, token=token, hosts=hosts, cookie=f"console_{port}", limits={"/try": settings.upload_bytes}
    )
    handlers: Any = {HTTPException: site.failed, UserError: site.failed, Exception: site.failed}
    static = Mount("/static", StaticFiles(directory=STATIC))
    routes = [static, *(route for pages in PAGES for route in pages(site).routes)]
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=lifespan)
