"""What a run has written survives a kill, a full disk, a killed worker and weights that are no numbers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ocr.data.samplers import EpochSampler
from ocr.errors import user_error
from ocr.jobs.make_data import write_icdar
from tests.disks import fill, other_file_system, small_disk
from tests.tiny import OFF, TINY, inspect, loader_workers, run, run_folder, started, wait_for

pytestmark = pytest.mark.slow
LONG = [*TINY, "trainer.max_epochs=10000", "trainer.precision=32-true"]


def state(path: Path) -> dict[str, Any]:
    """A checkpoint, which must be whole and sound."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    assert all(bool(v.isfinite().all()) for v in content["state_dict"].values() if v.is_floating_point())
    return content


def only_error(stderr: str) -> str:
    """The one line that says why a job has ended; no traceback stands around it."""
    assert "Traceback" not in stderr and "Logging error" not in stderr, stderr
    [line] = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert stderr.rstrip().endswith(line)
    return line


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def being_written(path: Path) -> bool:
    """Whether a file that was whole before is in the middle of being replaced, whichever way that is done."""
    usual, part = size(path), path.with_name(f"{path.name}.part")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if size(part) or size(path) < usual / 2:
                return True
    return False


def kill_in_write(cwd: Path, tmpdir: Path, *arguments: str) -> Path:
    """Train until ``last.ckpt`` is being replaced, then SIGKILL; the file."""
    before = set(cwd.glob("runs/*/*/checkpoints/last.ckpt"))
    with started("train", *arguments, OFF, cwd=cwd, TMPDIR=str(tmpdir)) as process:
        [last] = wait_for(lambda: set(cwd.glob("runs/*/*/checkpoints/last.ckpt")) - before)
        assert being_written(last)
        process.kill()
    return last


def test_a_kill_while_last_ckpt_is_written_leaves_a_whole_one(tmp_path: Path):
    with tempfile.TemporaryDirectory(dir=other_file_system(tmp_path)) as tmpdir:
        last = kill_in_write(tmp_path, Path(tmpdir), *LONG)
        before = state(last)["global_step"]
        assert before > 0
        last = kill_in_write(tmp_path, Path(tmpdir), f"resume={last}")
        assert state(last)["global_step"] > before


def test_a_disk_that_is_too_small_ends_a_run_in_one_line(tmp_path: Path):
    with small_disk(tmp_path / "disk", 8) as disk:  # a checkpoint has 4.9 MB
        done = run("train", *LONG, f"paths.output={disk}/runs", cwd=tmp_path)
        folder = run_folder(disk)
        assert done.returncode == 2
        assert re.search(r"no space left in .*/checkpoints: last\.ckpt needs 4\.\d MB, [0-3]\.\d MB are free",
                         only_error(done.stderr))  # fmt: skip
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["best.ckpt"], "no part, no torn file"
        assert state(folder / "checkpoints/best.ckpt")["global_step"] > 0
        record = json.loads((folder / "wandb_run.json").read_text())
        assert (record["ended"], record["exit_code"]) == ("failed", 2)
        content = inspect(folder)
        assert content["exit_code"] == 2 and content["tags"] == ["failed"]
        assert "no space left" in content["summary"]["ended/reason"]


def test_a_disk_filled_to_the_last_byte_ends_a_run_as_failed_and_resume_goes_on(tmp_path: Path):
    with small_disk(tmp_path / "disk", 30) as disk:
        with started("train", *LONG, f"paths.output={disk}/runs", cwd=tmp_path) as process:
            [last] = wait_for(lambda: list(disk.glob("runs/*/*/checkpoints/last.ckpt")))
            filler = fill(disk)
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2
        assert "are free" in only_error(stderr)
        assert len(stderr.splitlines()) < 10 + stderr.count("INFO epoch")
        steps = state(last)["global_step"]
        assert not list(disk.glob("**/*.part"))
        for record in (last.parents[1] / "wandb_run.json", *last.parents[1].glob("wandb/*run-*/wandb_run.json")):
            assert json.loads(record.read_text())["ended"] == "failed"
        assert run("train", *LONG, f"paths.output={disk}/runs", cwd=tmp_path).returncode == 2, "it is full still"
        filler.unlink()
        done = run("train", f"resume={last}", f"trainer.max_epochs={steps // 2 + 1}", f"paths.output={tmp_path}",
                   cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert state(max(tmp_path.glob("synthetic/*/checkpoints/last.ckpt")))["global_step"] == steps + 2


def test_a_diverged_run_keeps_its_sound_checkpoint_and_names_the_images(tmp_path: Path):
    write_icdar(tmp_path / "set", 12, 1, 0.0)
    drawn = ("data.train", "data.val", "data.test")
    mad = [*(a for a in LONG if not a.startswith(drawn)), "data=folder", "data.root=set",
           "data.train.0.hash_range=[0,1]", "data.val.0.hash_range=[0,1]",
           "trainer.check_val_every_n_epoch=1000", "callbacks.finite_weights.every=1000",
           "data.epoch_samples=4", "optimizer.lr=1e12", "trainer.gradient_clip_val=null",
           "trainer.max_epochs=3"]  # fmt: skip
    done = run("train", *mad, OFF, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    line = only_error(done.stderr)
    assert "the weights are not finite after step 2: try a lower optimizer.lr" in line
    [last] = run_folder(tmp_path, "folder").glob("checkpoints/*")
    assert line.endswith(f"sound weights from before are in {last}")
    assert state(last)["global_step"] == 1
    sampler = EpochSampler([12], [4], seed=42)
    sampler.set_epoch(1)
    first = re.search(r"the loss was not finite first in step 2, with the images ([^;]*)", line)
    assert first, line
    assert [name[-10:] for name in first[1].split(", ")] == [f"{index:06d}.jpg" for index, _ in sampler]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the workers are found in /proc")
def test_a_killed_loader_worker_ends_a_run_in_one_line_and_resume_goes_on(tmp_path: Path):
    with started("train", *LONG, OFF, "data.num_workers=1", cwd=tmp_path) as process:
        [last] = wait_for(lambda: list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")))
        os.kill(wait_for(lambda: loader_workers(process))[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2, stderr
    line = only_error(stderr)
    assert "DataLoader worker" in line and "data.num_workers" in line and "resume=" in line
    steps = state(last)["global_step"]
    done = run("train", f"resume={last}", f"trainer.max_epochs={steps // 2 + 1}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert state(run_folder(tmp_path) / "checkpoints/last.ckpt")["global_step"] == steps + 2


def test_a_batch_whose_worker_is_gone_is_a_user_error_and_an_early_end_elsewhere_is_none():
    """Which error comes up depends on where the worker was; this is the one while its shared memory is taken over."""
    for place, told in (("/lib/multiprocessing/resource_sharer.py", True), ("/lib/other.py", False)):
        names: dict[str, Any] = {}
        exec(compile("def fetch():\n    raise EOFError", place, "exec"), names)
        with pytest.raises(EOFError) as caught:
            names["fetch"]()
        found = user_error(caught.value)
        assert (found is not None and "resume=" in str(found)) is told
