"""The runners and the real W&B client against a stand-in server: online, outages, refusals, resume, sync, lineage."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr.tracking.ending import abandoned
from ocr.tracking.run import tracked_run
from tests.composing import job_for
from tests.standin import KEY, StandIn
from tests.standin_records import StoredRun
from tests.tiny import TINY, run, run_folder, started, wait_for

pytestmark = pytest.mark.slow
SHORT = [*TINY, "logger.transmit_interval=1", "logger.finish_timeout=6", "logger.init_timeout=4"]
STEPS = 4  # of two epochs over eight images in batches of four


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


def losses(history: list[dict]) -> list[int]:
    """The steps whose loss arrived."""
    return [row["trainer/global_step"] for row in history if "train/loss" in row]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def sync(cwd: Path, server: StandIn):
    """``make sync`` in a folder."""
    return run("sync", cwd=cwd, **server.env())


def assert_in_history_only(stored: StoredRun, key: str) -> None:
    assert any(key in row for row in stored.history)
    assert not [name for name in stored.summary if name.startswith("problematic_batch")]


def assert_complete(server: StandIn, run_id: str, exit_code: int = 0) -> None:
    """All of a training has arrived: metrics, pictures, table, config, name, checkpoints, data."""
    stored = server.runs[run_id]
    assert losses(stored.history) == list(range(STEPS))
    assert stored.complete and stored.exit_code == exit_code
    assert {"val/hmean", "test/hmean", "best/val/hmean", "best/train/loss"} <= set(stored.summary)
    assert_in_history_only(stored, "problematic_batch_0_recall")
    assert any(name.startswith("media/images/problematic_batch_0_images") for name in stored.files)
    assert any(name.startswith("media/table/worst_images") for name in stored.files)
    assert any(name.startswith("media/table/data_audit") for name in stored.files)
    assert stored.config["model"]["backbone"]["name"] == "mobilenetv3_small_050"
    assert "_hmean" in stored.fields["displayName"]
    committed = [a for a in server.artifacts.values() if a.state == "COMMITTED"]
    made = {alias: a for a in committed if a.collection == f"model-{run_id}" for alias in a.aliases}
    assert made["last"].files.keys() == {"last.ckpt"}
    assert made["best"].files.keys() == {"best.ckpt"} and made["best"].metadata["git_commit"]
    assert made["best"].metadata["score"] == stored.summary["best/val/hmean"]
    newest = [row["val/hmean"] for row in stored.history if "val/hmean" in row][-1]
    assert made["last"].metadata["score"] == newest, "of the last validation, also after a test"
    [data] = [a for a in committed if a.collection == "data-synthetic"]
    assert data.id in stored.used
    assert json.loads(data.files["dataset.json"])["fingerprint"]
    assert not server.faults


def test_an_online_run_its_test_and_its_download(server: StandIn, tmp_path: Path):
    done = run("train", *SHORT, cwd=tmp_path, **server.env())
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path)
    record = json.loads((folder / "wandb_run.json").read_text())
    assert record["state"] == "uploaded"
    assert_complete(server, record["id"])
    stored = server.runs[record["id"]]
    assert stored.fields["jobType"] == "training" and stored.fields["tags"] == ["finished"]
    best = next(a for a in server.artifacts.values() if "best" in a.aliases)
    assert best.files["best.ckpt"] == (folder / "checkpoints/best.ckpt").read_bytes()

    data = ["data.test=[{format:synthetic,count:3,seed:3}]", "data.num_workers=0", "trainer=cpu"]
    tested = run("test", f"ckpt_path={folder}", *data, "logger.finish_timeout=6", cwd=tmp_path, **server.env())
    assert tested.returncode == 0, tested.stderr
    [test_run] = [r for r in server.runs.values() if r.fields["jobType"] == "testing"]
    assert test_run.fields["groupName"] == stored.fields["groupName"]
    assert best.id in test_run.used, "the lineage leads to the version that training made"
    assert test_run.summary["test/hmean"] == pytest.approx(stored.summary["test/hmean"])
    assert_in_history_only(test_run, "problematic_batch_0_recall")
    assert test_run.config["split"] == "test" and test_run.config["command"].startswith("python runners/test.py ckpt")
    assert "_test-synthetic_dbnet_mobilenetv3-small-050_hmean" in test_run.fields["displayName"]

    shutil.rmtree(folder)
    name = f"ckpt_path=wandb:model-{record['id']}"
    again = run("test", name, *data, "name=downloaded", cwd=tmp_path, **server.env())
    assert again.returncode == 0, again.stderr
    figure = json.loads((run_folder(tmp_path, "downloaded") / "metrics.json").read_text())["test/hmean"]
    assert figure == pytest.approx(stored.summary["test/hmean"])
    lost = run("test", "ckpt_path=wandb:model-nowhere", *data, cwd=tmp_path, **server.env())
    assert lost.returncode == 2 and "model-nowhere:best" in lost.stderr and "Traceback" not in lost.stderr


def test_no_server_at_the_start(server: StandIn, tmp_path: Path):
    server.mood = "stall"
    done = run("train", *SHORT, cwd=tmp_path, **server.env())
    assert done.returncode == 0, done.stderr
    assert "no answer within 4 s" in done.stderr and "recording offline" in done.stderr
    [first, last] = [line for line in done.stderr.splitlines() if "wandb sync" in line]
    [folder] = [p for p in run_folder(tmp_path).glob("wandb/*run-*") if not p.is_symlink()]
    assert "no answer" in first and all(f"wandb sync {folder.relative_to(tmp_path)}" in line for line in (first, last))
    record = json.loads((run_folder(tmp_path) / "wandb_run.json").read_text())
    assert (record["state"], record["ended"], record["exit_code"]) == ("offline", "finished", 0)
    server.mood = "up"
    sent = sync(tmp_path, server)
    assert sent.returncode == 0 and "sent and confirmed" in sent.stdout, sent.stdout + sent.stderr
    assert_complete(server, json.loads((run_folder(tmp_path) / "wandb_run.json").read_text())["id"])
    assert sync(tmp_path, server).stdout.strip() == "nothing to send"


def test_an_outage_in_mid_run_that_lasts(server: StandIn, tmp_path: Path):
    with started("train", *SHORT, cwd=tmp_path, **server.env()) as process:
        wait_for(lambda: server.runs)
        server.mood = "drop"
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "did not take everything within 6 s" in stderr and "wandb sync --include-online" in stderr
    [stored] = server.runs.values()
    assert not stored.complete
    record = json.loads((run_folder(tmp_path) / "wandb_run.json").read_text())
    assert (record["state"], record["ended"], record["exit_code"]) == ("incomplete", "finished", 0)
    server.mood = "up"
    sent = sync(tmp_path, server)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert_complete(server, stored.id)


def test_an_outage_in_mid_run_that_ends(server: StandIn, tmp_path: Path):
    arguments = [*SHORT, "trainer.max_epochs=2", "logger.finish_timeout=60"]
    with started("train", *arguments, cwd=tmp_path, **server.env()) as process:
        wait_for(lambda: server.runs)
        server.mood = "drop"
        time.sleep(3)
        server.mood = "up"
        _, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    assert json.loads((run_folder(tmp_path) / "wandb_run.json").read_text())["state"] == "uploaded", stderr
    assert_complete(server, next(iter(server.runs)))


@pytest.mark.parametrize(
    "key, mood, words",
    [
        ("x" * 40, "up", ["refused the run", "WANDB_API_KEY"]),
        (KEY, "forbid", ["permission denied", "team/receipt-text-recognition-ocr-project"]),
        ("too-short", "up", ["malformed", "40+ characters, has 5"]),
        ("has white space in it" * 3, "up", ["malformed", "may only contain"]),
    ],
)
def test_a_refusal_is_one_line(server: StandIn, key: str, mood: str, words: list[str], tmp_path: Path):
    server.mood = mood
    done = run("train", *SHORT, cwd=tmp_path, **server.env(key))
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    for word in [*words, "logger.offline=true"]:
        assert word in done.stderr
    assert key not in done.stdout + done.stderr
    assert not any(r.history for r in server.runs.values())


def test_a_resumed_training_goes_on_in_its_run(server: StandIn, tmp_path: Path):
    first = run("train", *SHORT, "trainer.max_epochs=1", cwd=tmp_path, **server.env())
    assert first.returncode == 0, first.stderr
    [run_id] = server.runs
    before = len(server.runs[run_id].history)
    longer = ["trainer.max_epochs=2"]
    more = run("train", f"resume={run_folder(tmp_path)}", *longer, cwd=tmp_path, **server.env())
    assert more.returncode == 0, more.stderr
    assert list(server.runs) == [run_id]
    stored = server.runs[run_id]
    assert losses(stored.history) == list(range(STEPS)) and len(stored.history) > before
    assert stored.fields["tags"] == ["finished"] and stored.fields["displayName"].count("_hmean") == 1
    assert len([a for a in server.artifacts.values() if "best" in a.aliases]) == 1


def test_each_new_best_is_uploaded_and_old_ones_go(server: StandIn, tmp_path: Path):
    arguments = [*SHORT, "logger.artifacts.checkpoints=best", "callbacks.checkpoint.monitor=train/loss",
                 "callbacks.checkpoint.mode=min", "+callbacks.checkpoint.save_on_train_epoch_end=true",
                 "trainer.max_epochs=3", "optimized_metric=train/loss", "logger.finish_timeout=60"]  # fmt: skip
    done = run("train", *arguments, "test=false", cwd=tmp_path, **server.env())
    assert done.returncode == 0, done.stderr
    models = [a for a in server.artifacts.values() if a.type == "model"]
    kept = [a for a in models if a.state == "COMMITTED"]
    assert len(models) >= 3 and {"best", "last"} <= set().union(*(a.aliases for a in kept))
    assert all(a.aliases & {"best", "last"} for a in kept), "what is neither best nor last is deleted"
    assert any(a.state == "DELETED" for a in models)


def test_a_run_synced_from_another_place_loses_nothing(server: StandIn, tmp_path: Path):
    done = run("train", *SHORT, "logger.offline=true", cwd=_made(tmp_path / "a"), **server.env())
    assert done.returncode == 0 and not server.runs, done.stderr
    (tmp_path / "b").mkdir()
    shutil.move(tmp_path / "a/runs", tmp_path / "b/elsewhere")
    sent = run("sync", "elsewhere", cwd=tmp_path / "b", **server.env())
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert_complete(server, next(iter(server.runs)))


def test_sync_does_not_call_a_loss_a_success(server: StandIn, tmp_path: Path):
    done = run("train", *SHORT, "logger.offline=true", "test=false", cwd=tmp_path, **server.env())
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path)
    for path in [*folder.glob("wandb/offline-run-*/staged/*.ckpt"), *folder.glob("checkpoints/*.ckpt")]:
        path.unlink()
    sent = sync(tmp_path, server)
    assert sent.returncode == 1 and "is lost" in sent.stdout
    kept = run("clean_runs", "--yes", cwd=tmp_path, **server.env())
    assert "not synced" in kept.stdout and list(folder.glob("wandb/offline-run-*/*.wandb"))


def test_artifacts_that_nobody_has_confirmed_are_not_called_uploaded(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)

    def broken(seconds: float) -> list[str]:
        raise OSError("planted")

    with tracked_run(job_for(folder=tmp_path / "run"), "training") as tracking:
        assert tracking is not None and not tracking.run.offline
        monkeypatch.setattr(tracking.artifacts, "close", broken)
    assert json.loads((tmp_path / "run/wandb_run.json").read_text())["state"] == "incomplete"
    abandoned.clear()
