"""Pages in a real browser: their pictures, and what axe finds in them."""

from __future__ import annotations

import os
from typing import Any

WAIT_MS = 180_000  # imports on a slow machine that runs other tests, too
SCREENSHOTS = os.environ.get("CONSOLE_SCREENSHOTS")  # a folder: pictures of the pages for docs/images


def picture(page: Any, name: str, whole: bool = True) -> None:
    """Screenshots of a page at both widths, light and dark, where they are asked for; wide ones of the whole page."""
    if SCREENSHOTS:
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                page.screenshot(
                    path=f"{SCREENSHOTS}/console_{name}_{width}_{scheme}.png", full_page=whole and width == 1280
                )
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="light")


def check_accessible(page: Any) -> None:
    """No serious finding of axe, light and dark, and nothing wider than a narrow screen."""
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        serious = [
            (v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found if v["impact"] in ("serious", "critical")
        ]
        assert not serious, serious
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, page.url
    page.set_viewport_size({"width": 1280, "height": 900})


def fill_form(page: Any, address: str, command: str) -> None:
    """Open Compose, paste a command and wait until it was checked."""
    page.goto(address)
    page.get_by_text("Paste a command").click()
    page.get_by_label("A command, as it is typed").fill(command)
    page.get_by_role("button", name="Fill the form").click()
    page.get_by_text("checked: it can be started").wait_for()
