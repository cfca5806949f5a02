"""The console as its users have it: from the form to the run's figures, in a real browser where there is one."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ocr.console.form import WANDB_MODES
from ocr.console.jobs.queue import submit
from ocr.console.jobs.runs import find_runs, id_of
from ocr.utils.locks import lock_file
from tests.console.browsing import WAIT_MS, check_accessible, fill_form, picture
from tests.console.serving import end_jobs, needs_browser, served
from tests.tiny import TINY, wait_for


def test_two_thousand_runs_are_listed_within_a_second(tmp_path: Path):
    for k in range(2000):
        folder = tmp_path / f"runs/name{k % 7}/2026-01-01_00-{k // 60 % 60:02}-{k % 60:02}_{k:06x}"
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra/overrides.yaml").write_text(f"- seed={k}\n")
        (folder / "metrics.json").write_text(
            json.dumps({"val/hmean": 0.5, "headline": "val/hmean", "selected_on": "val", "seconds": 60.0})
        )
    hostile = tmp_path / "runs/<script>alert(1)</script>/2026-01-02_00-00-00_ffffff"
    (hostile / ".hydra").mkdir(parents=True)
    (hostile / "run.log").write_text("<script>alert(2)</script> \x1b[31m")
    with served(tmp_path) as console:
        console.ask("/runs")
        began = time.perf_counter()
        status, page = console.ask("/runs")
        seconds = time.perf_counter() - began
        print(f"first page of 2,001 runs: {seconds:.3f} s")
        assert status == 200 and seconds < 1 and "2001 run(s), page 1 of 41" in page
        assert "0.5000" in page and "chosen on val" in page
        assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
        [run] = [run for run in find_runs(tmp_path / "runs") if "script" in run.name]
        assert "<script>alert" not in console.ask(f"/runs/{run.id}")[1]
        ids = [run.id for run in find_runs(tmp_path / "runs")[1:3]]
        status, compared = console.ask(f"/compare?id={ids[0]}&id={ids[1]}")
        assert status == 200 and "<code>seed</code>" in compared
        other = find_runs(tmp_path / "runs")[5]
        assert console.ask(f"/runs/{other.id}/delete", {"confirm": "no"})[0] == 422 and other.folder.exists()
        assert console.ask(f"/runs/{other.id}/delete", {"confirm": other.folder.name})[0] == 303
        assert not other.folder.exists() and console.ask(f"/runs/{other.id}")[0] == 404
        assert console.ask(f"/runs/{ids[0]}/archive", {})[0] == 303
        assert "1999 run(s)" in console.ask("/runs")[1] and "2000 run(s)" in console.ask("/runs?archived=1")[1]
        assert console.ask("/runs/%2e%2e/delete", {})[0] == 404


def test_a_folder_with_strange_content_is_shown_all_the_same(tmp_path: Path):
    def run(name: str | bytes, **files: str) -> Path:
        folder = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path / "runs"), os.fsencode(name))))
        (folder / ".hydra").mkdir(parents=True)
        for file, text in files.items():
            path = folder / file.replace("__", "/").replace("_json", ".json").replace("_csv", ".csv")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return folder

    run(b"a/\xff\xfebad")
    run("a/deep", metrics_json="[" * 100_000)
    run(
        "a/large",
        metrics_json='{"headline": "x", "x": 1' + "0" * 400 + ', "seconds": "5"}',
        console_json='{"notes": null}',
    )
    run("a/table", csv__metrics_csv="step,val/hmean\n1\nx,y\n2,0.5,7\n\0\n")
    run("a/no_step", csv__metrics_csv="val/hmean\n0.5\n", console_json="5")
    (run("a/yaml") / ".hydra/overrides.yaml").write_text("- 2024-99-99\n")
    (run("a/log") / "run.log").write_text(f"epoch {'9' * 5000}/3 x")
    (run("a/lock") / ".lock").write_bytes(b"\xff")
    secret = tmp_path / "secret"
    secret.write_text("not to be read")
    (run("a/link") / "run.log").symlink_to(secret)
    os.mkfifo(run("a/pipe") / "console.json")
    os.mkfifo(tmp_path / "runs/a/pipe/wandb_run.json")
    run("a/state", metrics_json='{"state": "queued"}')
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "best.ckpt").touch()
    (run("a/checkpoints") / "checkpoints").symlink_to(outside)
    odd = ['"seed": {}', '"seed": "1"', '"metric": []', '"number": Infinity', f'"a/b": 1{"0" * 400}']
    for k, text in enumerate(odd):
        sweep = '"sweep": {"number": 0, "varied": {}, "metric": null, "maximize": true}'
        sweep = (
            sweep.replace('"metric": null', text) if '"seed"' not in text and "/" not in text else f"{sweep}, {text}"
        )
        run(f"a/sweep_1/{k}", metrics_json=f'{{"state": "finished", "overrides": [], {sweep}}}')
    (tmp_path / "runs/a/sweep_1/sweep.json").write_text("[" * 100_000)
    (tmp_path / "runs/audit/x/relabel").mkdir(parents=True)
    (tmp_path / "runs/audit/x/audit.json").write_text('{"problems": [1]}')
    (tmp_path / "runs/audit/x/relabel/doubts.txt").symlink_to(secret)
    (tmp_path / "runs/audit/x/audit.html").symlink_to(secret)
    os.utime(tmp_path / "runs/audit/x/audit.json", (1, 1))
    (tmp_path / "runs/audit/x/relabel/old").write_text("<b>")
    os.utime(tmp_path / "runs/audit/x/relabel/old", (1, 1))
    for k, job in enumerate(('{"run": 5}', '{"run": "/elsewhere/x"}', f'{{"run": "{tmp_path}/runs/a/b", "gpus": 0}}')):
        (tmp_path / f"runs/.console/{k}").mkdir(parents=True)
        (tmp_path / f"runs/.console/{k}/job.json").write_text(job)
        (tmp_path / f"runs/.console/{k}/end.json").write_text('{"exit_code": [1]}' if k < 2 else '{"exit_code": 130}')
    with served(tmp_path) as console:
        status, page = console.ask("/runs")
        assert status == 200 and "19 run(s)" in page
        for shown in find_runs(tmp_path / "runs"):
            status, page = console.ask(f"/runs/{shown.id}")
            assert status == 200 and "not to be read" not in page, shown.name
            assert shown.state != "queued" and not shown.checkpoints
        audit = id_of("x")
        status, page = console.ask(f"/data/{audit}")
        assert status == 200 and "not to be read" not in page and "x" in console.ask("/data")[1]
        assert console.ask(f"/data/{audit}/report")[0] == 404
        packed = zipfile.ZipFile(io.BytesIO(console.get(f"/data/{audit}/relabel.zip")))
        assert packed.namelist() == ["old"], "no links"
        for given in ({"data": "[]"}, {"data": "folder", "kind": "x"}, {"data": "folder", "root": ""}):
            assert console.ask("/data", {"format": "icdar", "root": str(tmp_path / "runs"), **given})[0] == 422
        ids = "&".join(f"id={shown.id}" for shown in find_runs(tmp_path / "runs")[:6])
        assert console.ask(f"/compare?{ids}")[0] == 200
        [stopped] = [shown for shown in find_runs(tmp_path / "runs") if shown.name == "a/b"]
        assert console.ask(f"/runs/{stopped.id}/delete", {"confirm": "b"})[0] == 303
        assert console.ask(f"/runs/{stopped.id}")[0] == 404 and "18 run(s)" in console.ask("/runs")[1]
        for number in ("%C2%B2", "1" * 5000, "0", "-1", "x"):
            assert console.ask(f"/runs?page={number}")[0] == 200


def test_jobs_without_cards_run_one_after_the_other_and_a_stopped_one_never(tmp_path: Path):
    """The queue needs no server: its jobs wait for one another."""
    runs, note = tmp_path / "runs", tmp_path / "note"
    code = "import sys, time; f = open(sys.argv[1], 'a'); f.write(sys.argv[2]); f.flush(); time.sleep(.3); f.write('.')"
    with lock_file(runs / ".console/cpu.lock"):  # another job runs
        jobs = [submit(runs, ["python3", "-c", code, str(note), str(k)], runs / f"name/{k}", 0) for k in range(6)]
        jobs[1].stop()
        wait_for(lambda: jobs[1].state == "interrupted", 60)
        assert [job.state for job in jobs if job is not jobs[1]] == ["queued"] * 5
    wait_for(lambda: all(job.state == "finished" for job in jobs if job is not jobs[1]), 60)
    assert note.read_text() == "0.2.3.4.5."
    failed = submit(runs, ["python3", "-c", "import sys; sys.exit(2)"], runs / "name/3", 1)
    wait_for(lambda: failed.state == "failed", 60)


@pytest.mark.slow
@needs_browser
def test_a_training_from_the_form_to_its_figures(browser: Any, tmp_path: Path):
    """Pasted, started with W&B offline, watched to its end, while the server is killed and started again."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    command = shlex.join(["python", "runners/train.py", *TINY, "trainer.max_epochs=4", *WANDB_MODES["offline"]])
    try:
        with served(tmp_path) as console:
            fill_form(page, console.address, command)
            assert page.url == f"{console.base}/"
            assert page.get_by_label("trainer.max_epochs").input_value() == "4"
            assert page.get_by_label("offline", exact=True).is_checked()
            page.get_by_label("optimizer.lr").fill("-1")
            page.locator("[data-problem='optimizer.lr']").get_by_text("at least 0").wait_for()
            picture(page, "compose")
            page.get_by_label("optimizer.lr").fill("1e-3")
            page.get_by_text("checked: it can be started").wait_for()
            shown = page.locator("#command").inner_text()
            expected = [*shlex.split(command.replace("trainer.max_epochs=2 ", "")), "optimizer.lr=1e-3"]
            assert sorted(shlex.split(shown)) == sorted(expected)
            page.get_by_role("button", name="Start").click()
            page.get_by_text("running", exact=True).wait_for()
            console.process.kill()
            page.get_by_text("The console does not answer").wait_for()
        with served(tmp_path) as console:  # the first server is gone, its run is not
            page.goto(console.address)
            page.get_by_role("link", name="Runs").click()
            page.get_by_role("link", name="synthetic/").click()
            page.get_by_text("finished", exact=True).wait_for()
            assert page.locator("svg.chart").count() == 2
            [run] = find_runs(tmp_path / "runs")
            metrics = json.loads((run.folder / "metrics.json").read_text())
            assert f"{metrics[metrics['headline']]:.4f}" in page.locator("#live").inner_text()
            rows = csv.DictReader((run.folder / "csv/metrics.csv").open())
            losses = [row["train/loss"] for row in rows if row["train/loss"]]
            title = page.locator("svg.chart title").first.text_content()
            assert title.startswith(f"train/loss: {float(losses[-1]):.4g} at step ") and float(losses[-1]) > 0
            assert list(run.folder.glob("wandb/offline-run-*"))
            page.get_by_label("Tags").fill("first")
            page.get_by_role("button", name="Keep").click()
            page.get_by_role("link", name="Runs").click()
            page.get_by_text("first", exact=True).wait_for()
            for name in ("Compose", "Runs", "Doctor"):
                page.get_by_role("link", name=name).click()
                if name == "Doctor":
                    page.locator(".checks").wait_for()
                check_accessible(page)
                if name != "Compose":
                    picture(page, name.lower())
            page.goto(f"{console.base}/runs/{run.id}")
            check_accessible(page)
            picture(page, "run")
            page.get_by_role("button", name="Look at its predictions").click()
            page.locator("#look-state").get_by_text("3 of 3 images seen").wait_for()
            page.locator("#gallery li").nth(2).wait_for()
    finally:
        end_jobs(tmp_path / "runs")
        context.close()
    assert [said for said in problems if "ERR_CONNECTION_REFUSED" not in said] == []


@pytest.mark.slow
@needs_browser
def test_a_run_is_stopped_as_by_ctrl_c_and_goes_on_when_it_is_resumed(browser: Any, tmp_path: Path):
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    command = shlex.join([*TINY, "trainer.max_epochs=2000", "logger.wandb.enabled=false"])
    try:
        with served(tmp_path) as console:
            fill_form(page, console.address, command)
            page.get_by_role("button", name="Start").click()
            page.locator("#live").get_by_text("of 2000").wait_for()
            page.get_by_role("button", name="Stop").click()
            page.get_by_text("interrupted", exact=True).wait_for()
            [run] = find_runs(tmp_path / "runs")
            assert "interrupted by Ctrl-C" in (run.job.folder / "output.log").read_text()
            page.get_by_role("button", name="Resume").click()
            page.locator("#live").get_by_text("of 2000").wait_for()
            both = find_runs(tmp_path / "runs")
            assert len(both) == 2
            page.goto(f"{console.base}/compare?{'&'.join(f'id={run.id}' for run in both)}")
            check_accessible(page)
            picture(page, "compare")
    finally:
        end_jobs(tmp_path / "runs")
        page.close()
