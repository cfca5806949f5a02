"""Look, Try, Data and a sweep in a real browser, by mouse and by keyboard."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest

from ocr.console.jobs.runs import find_runs
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.jobs.make_data import write_icdar
from tests.console.browsing import WAIT_MS, check_accessible, fill_form, picture
from tests.console.serving import end_jobs, give_data, needs_browser, served
from tests.tiny import TINY

HOSTILE = "<img src=x onerror=alert(1)>"
pytestmark = [pytest.mark.slow, needs_browser]
FIRST = ".figure:first-child [data-figure=hmean]"  # figure of the first run
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: transfer }));
}"""


@pytest.fixture
def page(browser: Any) -> Any:
    """A page whose scripts and content policy report nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert page.problems == []


def hmean(page: Any) -> float:
    return float(page.locator("[data-figure=hmean]").first.inner_text().split()[1])


def test_predictions_are_looked_at_beside_another_run_and_thresholds_are_kept(page: Any, learned: Path, tmp_path: Path):
    write_icdar(tmp_path / "set", 4, 7, 0.0)
    labels = sorted((tmp_path / "set/labels").iterdir())[0]
    places = re.findall(r"(?m)^(?:[-\d.]+,){7}[-\d.]+", labels.read_text())
    labels.write_text("".join(f"{place},{HOSTILE}\n" for place in places))
    for name in ("first", HOSTILE):
        folder = tmp_path / f"runs/{name}/2026-01-01_00-00-00_aaaaaa"
        shutil.copytree(learned, folder)
        give_data(folder / "checkpoints/best.ckpt", tmp_path / "set", "val")
    with served(tmp_path, f"data_folders=[{tmp_path}/set]") as console:
        page.goto(console.address)
        page.get_by_role("link", name="Look").click()
        page.get_by_label("Run", exact=True).select_option(label="first/2026-01-01_00-00-00_aaaaaa")
        page.get_by_role("button", name="Look", exact=True).click()
        page.locator("#look-state").get_by_text("4 of 4 images seen").wait_for()
        page.locator("#gallery li").nth(3).wait_for()
        texts = page.locator("#gallery span").all_inner_texts()
        recalls = [float(text.split("recall ")[1].split(":")[0]) for text in texts]
        assert recalls == sorted(recalls) and recalls[0] < recalls[-1], "the worst first"
        page.get_by_label("Order").select_option("name")
        page.locator("#gallery button").nth(1).click()
        page.locator("#panes svg").wait_for()
        page.get_by_label("probability map").check()
        page.wait_for_load_state("networkidle")
        page.locator("#viewer").evaluate("viewer => viewer.scrollIntoView({ block: 'start' })")
        picture(page, "look", whole=False)
        page.get_by_text("Choose another run").click()
        page.get_by_label("Beside it").select_option(label=f"{HOSTILE}/2026-01-01_00-00-00_aaaaaa")
        page.get_by_role("button", name="Look", exact=True).click()
        page.locator("#look-state").get_by_text("8 of 8 images seen").wait_for()
        page.locator("#gallery li").nth(3).wait_for()
        assert page.locator("#look-note").inner_text() == ""
        before, other = hmean(page), page.locator("[data-figure=hmean]").nth(1).inner_text()
        assert before > 0.5 and other == f"hmean {before:.4f}"

        page.get_by_label("Order").select_option("name")
        page.locator("#gallery-state").get_by_text("4 picture(s)").wait_for()
        page.locator("#gallery strong").first.get_by_text("000000").wait_for()
        page.locator("#gallery button").first.focus()
        page.keyboard.press("Enter")
        image = page.locator("#panes svg").first
        image.wait_for()
        found = image.locator(".outline.found").count()
        assert page.locator("#panes svg").count() == 2 and found > 5
        box = image.get_attribute("viewBox")
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        zoomed = image.get_attribute("viewBox")
        assert zoomed != box and page.locator("#panes svg").nth(1).get_attribute("viewBox") == zoomed
        page.get_by_label("probability map").check()
        assert image.locator(".layer image").count() == 1
        page.locator("#zoom-page").click()
        image.locator(".outline.text").first.hover(force=True)
        assert page.locator("#viewer-hover").inner_text().startswith(f"found: “{HOSTILE}” ")
        assert page.locator("#viewer-faults").get_by_text(HOSTILE).count() and page.locator("main img").count() == 0
        check_accessible(page)

        page.locator("#slider-box_thresh").focus()
        began = time.perf_counter()
        page.keyboard.press("End")
        page.locator("#value-box_thresh").get_by_text("0.98").wait_for()
        page.locator(f"{FIRST}:not(:text('{before:.4f}'))").wait_for()
        print(f"slider to figure, 4 images: {time.perf_counter() - began:.2f} s")
        assert hmean(page) < before and image.locator(".outline.found").count() < found
        assert page.locator("[data-figure=hmean]").nth(1).inner_text() == other, "the other run keeps its own"
        page.get_by_label("With", exact=True).select_option("missed:unseen")
        page.locator("#gallery-state").get_by_text("picture(s)").wait_for()
        page.get_by_label("Missed text from, px high").fill("400")
        page.get_by_text("no picture has that").wait_for()

        page.get_by_role("button", name="Stored thresholds").click()
        page.locator(f"{FIRST}:text('{before:.4f}')").wait_for()
        for child in psutil.Process(console.process.pid).children(recursive=True):
            if child.cmdline()[-1] == "detectors":
                child.kill()
        page.locator("#slider-box_thresh").focus()
        page.keyboard.press("Home")
        page.locator(
            f".figure:first-child:has-text('all 4 images') [data-figure=hmean]:not(:text('{before:.4f}'))"
        ).wait_for()
        assert 0 < hmean(page) < 1, "all images were seen again"
        page.problems.clear()  # an answer that failed
        page.get_by_role("button", name="Stored thresholds").click()
        page.locator(f"{FIRST}:text('{before:.4f}')").wait_for()
        page.get_by_role("button", name="All images, all protocols").click()
        page.locator("#look-protocols").wait_for()
        cells = page.locator("#look-protocols tbody td").all_inner_texts()
        assert len(cells) == 9 and cells[2] == f"{before:.4f}" and all(0 < float(cell) <= 1 for cell in cells)
        page.get_by_role("button", name="Keep as a checkpoint").click()
        page.get_by_text("count as chosen on val").wait_for()
        runs = {run.name.split("/")[0]: run for run in find_runs(tmp_path / "runs")}
        assert len(runs["first"].checkpoints) == 3 and len(runs[HOSTILE].checkpoints) == 2


def test_a_receipt_is_dropped(page: Any, tmp_path: Path):
    pytest.importorskip("rapidocr_onnxruntime", reason="the stock weights come with make setup EXTRAS=ppocr")
    pixels, _ = SyntheticReceipts(1, 5, difficulty=0.0).load(0)
    content = base64.b64encode(cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()).decode()
    with served(tmp_path, "upload_mb=1") as console:
        page.goto(console.address)
        page.get_by_role("link", name="Try").click()
        page.get_by_text("No picture yet").wait_for()
        page.wait_for_load_state("load")
        page.evaluate(DROP, ["large.jpg", base64.b64encode(bytes(1_100_000)).decode()])
        page.get_by_text("more than 1 MB").wait_for()
        page.evaluate(DROP, ["receipt <b>.jpg", content])
        page.get_by_role("heading", name="receipt <b>.jpg").wait_for()
        assert page.locator("svg .outline.found").count() > 10
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON").click()
        assert len(json.loads(Path(download.value.path()).read_text())["polygons"]) > 10
        page.get_by_role("button", name="keep for labelling").click()
        page.get_by_text("polygon(s) are in").wait_for()
        check_accessible(page)
        picture(page, "try")


def test_a_set_is_audited_with_its_page(page: Any, tmp_path: Path):
    write_icdar(tmp_path / "set", 4, 0, 0.0)
    (tmp_path / "set/labels/gt_x.txt").write_text("1,2,3")
    with served(tmp_path, f"data_folders=[{tmp_path}/set]") as console:
        page.goto(f"{console.address}")
        page.get_by_role("link", name="Data").click()
        page.get_by_label("How thoroughly").select_option("")
        page.get_by_role("button", name="Audit").click()
        page.locator("iframe").wait_for()
        page.frame_locator("iframe").get_by_role("heading", name="What would be used").wait_for()
        check_accessible(page)
        picture(page, "audit")
        assert list((tmp_path / "runs/audit").glob("folder_*/audit.json"))
        page.get_by_role("link", name="Data").click()
        check_accessible(page)
        status, text = console.ask("/data", {"data": "folder", "root": "/etc", "kind": "quick", "format": "icdar"})
        assert status == 422 and "none of the folders" in text


def test_a_sweep_has_a_leaderboard(page: Any, tmp_path: Path):
    short = ["trainer.max_epochs=1", "test=false", "logger.wandb.enabled=false"]
    command = shlex.join(["runners/train.py", "-m", *TINY[:-2], *short, "+sweep=grid", "optimizer.lr=0.001,0.002"])
    try:
        with served(tmp_path) as console:
            fill_form(page, console.address, command)
            page.get_by_role("button", name="Start").click()
            page.locator("#leaderboard tbody tr").nth(1).wait_for()
            page.get_by_text("finished", exact=True).first.wait_for()
            assert sorted(page.locator("#leaderboard td:nth-child(5)").all_inner_texts()) == ["0.001", "0.002"]
            check_accessible(page)
            picture(page, "sweep")
            page.locator("#leaderboard a").first.click()
            page.locator("svg.chart").first.wait_for()
            [sweep] = [run for run in find_runs(tmp_path / "runs") if run.is_sweep]
            assert console.ask(f"/runs/{sweep.id}/delete", {"confirm": sweep.folder.name})[0] == 303
            assert find_runs(tmp_path / "runs") == []
    finally:
        end_jobs(tmp_path / "runs")
