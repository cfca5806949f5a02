"""Jobs of two processes: one record of all ranks, and one end."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.tiny import LEARNS, OFF, TINY, history, inspect, run, run_folder, started, wait_for

pytestmark = pytest.mark.slow
SHORT = [a for a in TINY if not a.startswith("trainer=")]
LONG = [*SHORT, "trainer=ddp_cpu", "trainer.max_epochs=1000"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep with two processes a job: job 0 learns, job 1 has one epoch. Every batch counts as bad."""
    cwd = tmp_path_factory.mktemp("sweep")
    arguments = [a for a in LEARNS if not a.startswith(("trainer=", "trainer.max_epochs="))]
    arguments.append("data.batch_size=2")  # as many per step as of one process
    worst = "logger.per_batch_image_logging.recall_threshold=1"
    done = run("train", "-m", *arguments, "trainer=ddp_cpu", "trainer.max_epochs=5,1", worst, cwd=cwd)
    assert done.returncode == 0, done.stderr
    (cwd / "stderr").write_text(done.stderr)
    [folder] = (cwd / "runs/synthetic").iterdir()
    assert json.loads((folder / "0/metrics.json").read_text())["val/hmean"] > 0.5
    return folder


def test_a_sweep_has_one_folder_and_each_job_its_own_two_processes(sweep: Path):
    folders = {path.name for path in sweep.iterdir() if path.is_dir()}
    assert sweep.name.startswith("sweep_") and folders == {"0", "1", "wandb", ".claims"}
    for job, epochs in (("0", 5), ("1", 1)):
        assert len((sweep / job / "predictions.jsonl").read_text().splitlines()) == 4
        content = inspect(sweep / job)
        assert content["config"]["devices"] == 2 and content["exit_code"] == 0
        assert content["config"]["trainer"]["max_epochs"] == epochs


def test_what_the_data_are_is_said_and_written_by_one_rank(sweep: Path):
    said = (sweep.parents[2] / "stderr").read_text()
    assert said.count("INFO val: 4 images") == 2 and said.count("INFO network: ") == 2, "once for each of two jobs"


def test_bad_batches_and_the_table_come_from_all_ranks(sweep: Path):
    rows = history(sweep / "0")
    first = next(row for row in rows if "problematic_batch_0_recall" in row)
    for batch in range(4):  # two images each: 0 and 2 are of rank 0, 1 and 3 of rank 1
        assert first[f"problematic_batch_{batch}_count"] == 1 and f"problematic_batch_{batch}_images" in first
        assert list(sweep.glob(f"0/wandb/*run-*/files/media/images/problematic_batch_{batch}_images*.jpg"))
    [path] = sweep.glob("0/wandb/*run-*/files/media/table/worst_images*.json")
    table = json.loads(path.read_text())
    found = [dict(zip(table["columns"], row)) for row in table["data"]]
    assert {row["batch"] for row in found} == {0, 1, 2, 3} and len({row["image"] for row in found}) == 4
    assert [row["hmean"] for row in found] == sorted(row["hmean"] for row in found)
    metrics = json.loads((sweep / "0/metrics.json").read_text())
    matched, texts = sum(row["matched"] for row in found), sum(row["texts"] for row in found)
    assert matched / texts == pytest.approx(metrics["test/recall"]) and matched > 0


def test_the_last_checkpoint_has_the_score_of_its_epoch_after_a_test(sweep: Path):
    [path] = sweep.glob("0/wandb/*run-*/staged/artifacts.json")
    made = {entry["aliases"][0]: entry for entry in json.loads(path.read_text()) if not entry["used"]}
    scores = [row["val/hmean"] for row in history(sweep / "0") if "val/hmean" in row]
    assert len(scores) == 5 and scores[-1] > 0
    assert made["last"]["metadata"]["score"] == pytest.approx(scores[-1])
    assert made["best"]["metadata"]["score"] == pytest.approx(max(scores))


def test_no_text_is_said_once_by_two_processes(sweep: Path, tmp_path: Path):
    strict = ["postprocess.thresh=0.99", "postprocess.box_thresh=0.999", "data.num_workers=0"]
    done = run("test", f"ckpt_path={sweep}/0", "trainer=ddp_cpu", *strict, OFF, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no text was found in any of 4 image(s)") == 1, done.stderr


def test_tuning_that_fails_on_the_first_rank_ends_all_with_its_reason(tmp_path: Path):
    (tmp_path / "run/tuning.csv").mkdir(parents=True)  # where a file is to be written
    grid = ["tuning.thresh=[0.3]", "tuning.box_thresh=[0.5]", "tuning.min_size=[2]", "tuning.unclip={exact:[0.4]}",
            "tuning.folds=3"]  # fmt: skip
    arguments = [*SHORT, "trainer=ddp_cpu", "trainer.max_epochs=1", "tune=true", *grid, "hydra.run.dir=run"]
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and "IsADirectoryError" in done.stderr, done.stderr
    [line] = [line for line in done.stderr.splitlines() if "rank 1 ends, as rank 0 has failed" in line]
    assert "IsADirectoryError" in line and "gloo" not in done.stderr, "rank 1 does not find out by a broken connection"
    content = inspect(tmp_path / "run")
    assert content["exit_code"] == 1 and "IsADirectoryError" in content["summary"]["ended/reason"]


def test_two_processes_train_and_test_as_one(tmp_path: Path):
    """The recipe of ``experiment=finetune``: no batch norms, and a loss that is a mean over images."""
    pytest.importorskip("rapidocr_onnxruntime", reason="the stock weights come with make setup EXTRAS=ppocr")
    recipe = [
        "model=ppocr_v4", "optimizer=lamb", "optimizer.lr=2.5e-3", "model.loss.per_image=true", "model.compile=false",
        "keep_start=true", "model.pipeline.resize.long_side=320", "data.geometry.crop_size=[96,96]",
        "data.num_workers=0",
        "data.train=[{format:synthetic,count:8,seed:1,difficulty:0}]",
        "data.val=[{format:synthetic,count:3,seed:2,difficulty:0}]",
        "data.test=[{format:synthetic,count:5,seed:3,difficulty:0}]", "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1", "trainer.precision=32-true", OFF,
    ]  # fmt: skip
    losses, figures = {}, {}
    for name, *own in (("one", "trainer=cpu", "data.batch_size=4"), ("two", "trainer=ddp_cpu", "data.batch_size=2")):
        done = run("train", *recipe, *own, f"name={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "4 samples per step" in done.stderr
        with (run_folder(tmp_path, name) / "csv/metrics.csv").open() as file:
            losses[name] = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        figures[name] = scores(run_folder(tmp_path, name))
    starts = [{k: v for k, v in figures[name].items() if k.startswith("start/")} for name in figures]
    assert starts[0] == starts[1] and starts[0]["start/hmean"] > 0.1
    assert len(set(losses["one"])) == 4
    assert losses["two"][:2] == pytest.approx(losses["one"][:2], rel=1e-6)
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-4)  # rounding grows with the steps
    done = run("test", f"ckpt_path={run_folder(tmp_path, 'one')}", "trainer=ddp_cpu", OFF, "name=again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    again = scores(run_folder(tmp_path, "again"))
    assert again == {key: value for key, value in figures["one"].items() if key in again}, "5 images over 2 processes"
    assert again["test/hmean"] > 0.1


def scores(folder: Path) -> dict[str, float]:
    """The figures of the initial weights and of the test, without those that depend on the time."""
    metrics = json.loads((folder / "metrics.json").read_text())
    kept = {key: value for key, value in metrics.items() if key.startswith(("start/", "test/"))}
    return {key: value for key, value in kept.items() if "per_second" not in key}


STUCK = "callbacks.progress._target_=tests.tiny.StuckOnFirstRank"


@pytest.mark.parametrize("more", [[], [STUCK]], ids=["noticed", "stuck"])
def test_a_killed_rank_is_named_and_the_record_says_failed(more: list[str], tmp_path: Path):
    with started("train", *LONG, *more, cwd=tmp_path, PYTHONPATH=str(ROOT)) as process:
        wait_for(lambda: list(tmp_path.glob("runs/synthetic/*/checkpoints/last.ckpt")), 200)
        [other] = [pid for pid in children(process.pid) if is_rank(pid, 1)]
        os.kill(other, signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2 and "Traceback" not in stderr, stderr
    assert stderr.count(f"rank 1 (process {other}) was killed by SIGKILL") == 1, stderr
    content = inspect(run_folder(tmp_path))
    assert content["exit_code"] == 2 and content["tags"] == ["failed"]
    assert "rank 1" in content["summary"]["ended/reason"] and "best/train/loss" in content["summary"]
    record = json.loads((run_folder(tmp_path) / "wandb_run.json").read_text())
    assert record["ended"] == "failed" and record["state"] == "offline"


@pytest.mark.parametrize("whom", ["all", "second rank"])
def test_a_signal_ends_all_ranks_with_a_checkpoint(whom: str, tmp_path: Path):
    """Schedulers signal every process of the job, loader workers too; a person perhaps one."""
    epoch = ["data.epoch_samples=4000", "trainer.max_epochs=1", "data.num_workers=1"]
    with started(
        "train", *[a for a in SHORT if "num_workers" not in a], "trainer=ddp_cpu", *epoch, cwd=tmp_path
    ) as job:
        wait_for(lambda: list(tmp_path.glob("runs/synthetic/*/csv/metrics.csv")), 200)
        [other] = [pid for pid in children(job.pid) if is_rank(pid, 1)]
        if whom == "all":
            os.killpg(job.pid, signal.SIGTERM)
        else:
            os.kill(other, signal.SIGTERM)
        _, stderr = job.communicate(timeout=60)
    assert job.returncode == 143 and "Traceback" not in stderr, stderr
    folder = run_folder(tmp_path)
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert last["position"]["seen"] == 8 * last["global_step"] > 0
    assert json.loads((folder / "wandb_run.json").read_text())["ended"] == "terminated"


def children(pid: int) -> list[int]:
    """The processes that another has started, on Linux."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_rank(pid: int, rank: int) -> bool:
    return f"LOCAL_RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
