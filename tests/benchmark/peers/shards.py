"""Shards against loose files: ``python -m tests.benchmark.peers.shards <folder with loose files>``, some three minutes.

Samples per second of an epoch of training crops from loose files and from shards, on the disk and from a web server on
the loopback whose answers each take 20 ms; then the index of a million samples, made by repeating.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

from ocr.benchmark.workload import load_data
from ocr.data.formats.shards import LIST
from ocr.data.sources.build import build_sources
from ocr.data.storage.mirror import local_folder
from ocr.jobs.convert import ConvertSettings, convert
from ocr.utils.config import plain_config
from tests.conftest import ROOT
from tests.file_server import FileServer

DELAY_SECONDS = 0.02
ROUNDS = 5
MILLION = 1_000_000
INDEX = """
import json, sys, time
from ocr.data.samplers import EpochSampler
from ocr.data.sources.build import build_sources

def memory(*kinds):
    rows = [line.split() for line in open("/proc/self/smaps_rollup")]
    return sum(int(row[1]) for row in rows if row[0][:-1] in kinds) / 1e3

began, before = time.perf_counter(), memory("Private_Dirty")
[source], _ = build_sources([{"format": "shards", "images": "."}], sys.argv[1], "train", False, 20)
opened, own = time.perf_counter() - began, memory("Private_Dirty") - before
began = time.perf_counter()
next(iter(EpochSampler([source.runs()], [len(source)], 1, window=4096)))
order = time.perf_counter() - began
began = time.perf_counter()
source.load(len(source) // 2)
first = time.perf_counter() - began
print(json.dumps({"samples": len(source), "open s": opened, "private MB": own, "order s": order, "load s": first,
                  "index MB": (source.index.records.nbytes + source.index.names.data.nbytes
                               + source.index.names.offsets.nbytes) / 1e6}))
"""


def epoch_rate(root: str, cache_gb: float, workers: int) -> tuple[float, int]:
    """Samples per second of an epoch, after the first batch, and how many."""
    local_folder.cache_clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        overrides = [f"data.root={root}", f"data.cache_gb={cache_gb}", f"data.num_workers={workers}", "data=folder"]
        data = load_data(compose("benchmark", overrides=overrides), "train")
    batches = iter(data.train_dataloader())
    next(batches)
    began = time.perf_counter()
    count = sum(len(batch["image"]) for batch in batches)
    return count / (time.perf_counter() - began), count


def epochs(loose: Path, folder: Path) -> None:
    """A line per way to read the set, in turns."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        data = plain_config(compose("convert", overrides=[f"data.root={loose}", "format=shards", "output=x"]))["data"]
    convert(ConvertSettings(data, "shards", str(folder / "shards"), 32))
    server = FileServer(folder / "shards", DELAY_SECONDS)
    rates: dict[str, list[float]] = {}
    with server.running() as url:
        for k in range(ROUNDS):
            for name, root, cache_gb, cache in (
                ("loose files, disk", loose, 20, "own"), ("shards, disk", folder / "shards", 20, "own"),
                ("shards, HTTP, nothing kept before", url, 20, f"new{k}"), ("shards, HTTP, kept", url, 20, f"new{k}"),
                ("shards, HTTP, cache_gb=0", url, 0, "own"),
            ):  # fmt: skip
                os.environ["XDG_CACHE_HOME"] = str(folder / cache)
                server.requests.clear()
                rate, count = epoch_rate(str(root), cache_gb, workers=2)
                rates.setdefault(name, []).append(rate)
                print(f"{name}: {rate:.0f} samples/s, {count} samples, {len(server.requests)} requests", flush=True)
    base = rates["loose files, disk"]
    for name, values in rates.items():
        ratios = [value / other for value, other in zip(values, base)]
        print(f"| {name} | {statistics.median(values):.0f} | {min(ratios):.2f} to {max(ratios):.2f} |")


def index(loose: Path, folder: Path) -> None:
    """Start and memory with a million samples: hard links to one shard."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        data = plain_config(compose("convert", overrides=[f"data.root={loose}", "format=shards", "output=x"]))["data"]
    convert(ConvertSettings(data | {"val": [], "test": []}, "shards", str(folder / "one"), 10_000))
    plain = json.loads((folder / "one" / LIST).read_text())
    [shard] = plain["shards"]
    many = folder / "million"
    many.mkdir()
    count = -(-MILLION // shard["samples"])
    for k in range(count):
        for suffix in (".tar", ".npz"):
            os.link(folder / "one" / f"shard-000000{suffix}", many / f"shard-{k:06d}{suffix}")
    shards = [shard | {"file": f"shard-{k:06d}.tar"} for k in range(count)]
    (many / LIST).write_text(json.dumps(plain | {"samples": count * shard["samples"], "shards": shards}))
    with FileServer(many, DELAY_SECONDS).running() as url:
        for name, root in (("disk", str(many)), ("HTTP", url)):
            os.environ["XDG_CACHE_HOME"] = str(folder / f"index_{name}")
            for start in ("first", "second"):
                done = subprocess.run([sys.executable, "-c", INDEX, root], capture_output=True, text=True, cwd=ROOT)
                print(f"index, {name}, {start} start: {done.stdout.strip() or done.stderr}", flush=True)
    os.environ["XDG_CACHE_HOME"] = str(folder / "loose")
    split = [
        {
            "split": "train",
            "hash_range": [0.0, 1.0],
            **dict.fromkeys(("format", "images", "annotations", "ids"), "auto"),
        }
    ]
    from ocr.data.sources.build import resolve_sources

    [source], _ = build_sources(resolve_sources(split, str(loose)), str(loose), "train", False)
    tables = [source.index.paths, source.index.texts]
    arrays = [source.index.sizes, source.index.instance_offsets, source.index.points, source.index.point_offsets,
              source.index.ignore, *(t.data for t in tables), *(t.offsets for t in tables)]  # fmt: skip
    print(f"index of loose files: {sum(np.asarray(a).nbytes for a in arrays) / len(source):.0f} bytes per sample")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as place:
        index(Path(sys.argv[1]), Path(place))
        epochs(Path(sys.argv[1]), Path(place))
