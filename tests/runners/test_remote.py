"""A training on a set that lies elsewhere, and a test from its checkpoint alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr.jobs.make_data import write_icdar
from tests.file_server import FileServer
from tests.tiny import OFF, TINY, run, run_folder

pytestmark = pytest.mark.slow
NETWORK = [o for o in TINY if not o.startswith(("data.train", "data.val", "data.test"))]


def test_a_training_from_shards_on_a_web_server_is_the_one_from_the_disk(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for part, count in (("train", 8), ("val", 3)):
        write_icdar(tmp_path / "loose" / part, count, count, 0.5)
    done = run("convert", "data.root=loose", "format=shards", "output=shards", "shard_mb=0.1", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[0].endswith("shards/train/shards.json"), done.stderr
    server, losses = FileServer(tmp_path / "shards"), {}
    with server.running() as url:
        for name, root in (("disk", "shards"), ("web", url)):
            where = ["data=folder", f"data.root={root}", "data.num_workers=1", "test=false", f"name={name}"]
            done = run("train", *NETWORK, *where, *([OFF] if name == "disk" else []), cwd=tmp_path)
            assert done.returncode == 0 and "train: 8 images" in done.stderr, done.stderr
            rows = (run_folder(tmp_path, name) / "csv/metrics.csv").read_text().splitlines()
            column = rows[0].split(",").index("train/loss")
            losses[name] = [row.split(",")[column] for row in rows[1:] if row.split(",")[column]]
        assert losses["web"] == losses["disk"] and len(set(losses["disk"])) == 4
        [staged] = run_folder(tmp_path, "web").glob("wandb/offline-run-*/staged/artifacts.json")
        entries = [entry for artifact in json.loads(staged.read_text()) for entry in artifact["references"].values()]
        assert f"{url}/train/shards.json" in {entry["ref"] for entry in entries}
        done = run("test", f"ckpt_path={run_folder(tmp_path, 'web')}", "split=val", OFF, "name=again", cwd=tmp_path)
        assert done.returncode == 0 and "val: 3 images" in done.stderr, done.stderr
    lines = (run_folder(tmp_path, "again") / "predictions.jsonl").read_text().splitlines()
    assert all(json.loads(line)["image"].startswith(f"{url}/val/shard-00000") for line in lines) and len(lines) == 3


def test_shards_that_are_cut_off_end_a_training_in_one_line(tmp_path: Path):
    write_icdar(tmp_path / "loose", 8, 1, 0.5)
    done = run("convert", "data.root=loose", "format=shards", "output=shards", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tar = tmp_path / "shards/shard-000000.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    for workers in (0, 1):
        arguments = ["data=folder", "data.root=shards", "data.val_from=0.5", f"data.num_workers={workers}", OFF]
        done = run("train", *NETWORK, *arguments, cwd=tmp_path)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
        assert "the shard is not the one that its index describes" in errors[0]
