"""Trainings on several machines: two groups of processes with addresses of their own, started by torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.tiny import OFF, TINY, run, run_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine on Linux"),
]
SAMPLES = 20
NOTES = "+callbacks.notes={_target_:tests.tiny.NotesSamples,folder:%s%s}"
SMALL = [
    *(a for a in TINY if not a.startswith(("trainer=", "data.train", "data.batch_size"))), "data.batch_size=2",
    f"data.train=[{{format:synthetic,count:{SAMPLES},seed:1}}]", "data.test=[]", "trainer.precision=32-true",
    "trainer.accelerator=cpu", "trainer.sync_batchnorm=false", "trainer.max_epochs=3",
    "checkpoint_every_minutes=1e-6",
]  # fmt: skip


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.2", 0))
        return int(server.getsockname()[1])


def torchrun(cwd: Path, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """The same command on two machines of one process each; how both have ended."""
    port, started = free_port(), []
    for machine in range(2):
        options = ["--nnodes=2", f"--node-rank={machine}", "--nproc-per-node=1", "--master-addr=127.0.0.2",
                   f"--master-port={port}", f"--local-addr=127.0.0.{machine + 2}"]  # fmt: skip
        command = [sys.executable, "-m", "torch.distributed.run", *options, str(ROOT / "runners/train.py"), *arguments]
        started.append(subprocess.Popen(
            command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        ))  # fmt: skip
    ended = []
    for process in started:
        out, err = process.communicate(timeout=300)
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return ended


def notes(folder: Path) -> list[tuple[int, int, int]]:
    """Epoch, step and sample, of all ranks."""
    lines = [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]
    return [(epoch, step, sample) for epoch, step, samples in lines for sample in samples]


def test_a_machine_is_killed_and_another_number_of_processes_sees_each_sample_once(tmp_path: Path):
    """Two machines make 5 steps per epoch; the second dies in step 8, and three processes go on after step 7."""
    mine = [*SMALL, "trainer=ddp_2nodes", "trainer.devices=1", NOTES % (tmp_path / "first", ",kill_at:8")]
    first, second = torchrun(tmp_path, *mine)
    assert first.returncode == second.returncode == 1, first.stderr
    assert "error: another rank has ended; its own lines say why" in first.stderr
    folder = run_folder(tmp_path)
    assert len([*folder.parent.iterdir()]) == 1, "only rank 0 has a run folder"
    record = json.loads((folder / "wandb_run.json").read_text())
    assert record["ended"] == "failed" and len([*folder.glob("wandb/offline-run-*")]) == 1
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 7 and last["position"]["seen"] == 8

    more = ["trainer=ddp_cpu", "trainer.devices=3", "trainer.num_nodes=1", NOTES % (tmp_path / "second", "")]
    done = run("train", f"resume={folder}", *more, "name=more", cwd=tmp_path, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    before = [(epoch, sample) for epoch, step, sample in notes(tmp_path / "first") if step <= 7]
    after = [(epoch, sample) for epoch, _, sample in notes(tmp_path / "second")]
    for epoch in (0, 1):
        seen = Counter(sample for e, sample in before + after if e == epoch)
        assert sorted(seen.elements()) == list(range(SAMPLES)), "each sample of an epoch once, no more, no less"
    assert len({step for epoch, step, _ in notes(tmp_path / "second") if epoch == 1}) == 2, "12 samples in steps of 6"
    assert len({sample for epoch, sample in after if epoch == 2}) == 18, "a whole epoch has full steps alone"
    rows = (run_folder(tmp_path, "more") / "csv/metrics.csv").read_text()
    assert (
        rows.count("\n1,") and json.loads((run_folder(tmp_path, "more") / "metrics.json").read_text())["val/hmean"] >= 0
    )


def test_numbers_that_do_not_fit_are_refused(tmp_path: Path):
    alone = run("train", *SMALL, OFF, "trainer=ddp_2nodes", cwd=tmp_path)
    assert alone.returncode == 2 and "start this command on each machine with torchrun or srun" in alone.stderr
    for arguments, words in ((["trainer=cpu"], "2 processes of this command were started, but"),
                             (["-m", "seed=1,2"], "a sweep starts its jobs itself")):  # fmt: skip
        started = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
        done = run("train", *SMALL, OFF, *arguments, cwd=tmp_path, **started)
        assert done.returncode == 2 and words in done.stderr, done.stderr
