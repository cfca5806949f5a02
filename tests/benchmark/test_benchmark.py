from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from ocr.benchmark.clock import in_turns
from ocr.benchmark.memory import memory_of_family
from ocr.benchmark.rows import Goal, Row
from ocr.benchmark.run import in_own_process
from ocr.benchmark.workload import boxes, ideal_map, lines
from ocr.data.targets.maps import TargetMaker
from ocr.errors import UserError
from ocr.metrics.hmean import Hmean
from ocr.metrics.protocol import evaluate
from ocr.models.postprocess.db import find_polygons
from ocr.pipeline import PostProcess
from tests.benchmark.peers.peers import checkout_module
from tests.tiny import TINY, run


def test_works_are_timed_in_turns_without_the_warmup():
    order: list[str] = []
    timings = in_turns({"a": lambda: order.append("a"), "b": lambda: time.sleep(0.01)}, repeats=3, warmup=2)
    assert order == ["a"] * 5 and len(timings["a"]) == len(timings["b"]) == 3
    assert min(timings["b"]) >= 0.01 > statistics.median(timings["a"])


def test_a_budget_ends_a_measurement_after_two_rounds():
    assert len(in_turns({"a": lambda: time.sleep(0.02)}, repeats=50, budget=0.01)["a"]) == 2


def test_a_figure_is_the_median_of_its_repetitions_in_its_unit():
    assert Row.of("x.y", [0.004, 0.001, 0.002], "ms", "on") == Row("x.y", 2.0, "ms", 1.5, 3.0, 3, "on")
    assert Row.of("x.y", [0.004], "ms", pieces=4) == Row("x.y", 1.0, "ms", 1.0, 1.0, 1, "")
    assert Row.of("x.y", [0.4, 0.6], "x").value == pytest.approx(0.5)


def test_goals_say_what_they_ask_for():
    assert Goal(most=2.0).met(2.0) and not Goal(most=2.0).met(2.1) and Goal(least=0.9).met(0.95)
    assert (str(Goal(most=1.5)), str(Goal(least=0.9))) == ("<= 1.5", ">= 0.9")
    with pytest.raises(UserError):
        Goal()


def test_what_is_measured_on_is_what_it_says():
    """Lines inside their picture, a map that post-processing finds all lines in, detections close to their labels."""
    polygons = np.array(lines(60, 704, 1280, seed=1))
    assert polygons.shape == (60, 4, 2) and polygons[..., 0].min() > -40 and polygons[..., 1].max() < 1320
    kernels = ideal_map(list(polygons), 704, 1280, TargetMaker(0.4, 4))
    found, _ = find_polygons(kernels, PostProcess(0.3, 0.6, "exact", 0.4, 3, 1000, "quad"))
    assert len(found) == 60
    assert 0.85 < evaluate(Hmean(), *boxes(5, 50, seed=0))["hmean"] < 1


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="memory by process is Linux's")
def test_memory_is_that_of_all_processes_and_shared_pages_count_once():
    code = "import sys; held = bytearray(b'1') * 100_000_000; print(len(held), flush=True); sys.stdin.read()"
    before = memory_of_family()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() and 95 < memory_of_family() - before < 130
        child.communicate()


def test_a_module_of_a_checkout_comes_alone(tmp_path: Path):
    """Neither its package's __init__ nor what it imports from packages that are not there."""
    inner = tmp_path / "Peer" / "peer_package" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("raise RuntimeError('not wanted')")
    (inner / "work.py").write_text(
        "from not_there.deep import helper\nfrom .near import VALUE\nresult = helper + VALUE"
    )
    (inner / "near.py").write_text("VALUE = 2")
    module = checkout_module(tmp_path, "Peer", "peer_package.inner.work", not_there__deep={"helper": 40})
    assert module.result == 42 and str(tmp_path / "Peer") not in sys.path
    with pytest.raises(FileNotFoundError, match="no checkout Other"):
        checkout_module(tmp_path, "Other", "peer_package.inner.work")


def its_process(config: DictConfig) -> list[Row]:
    return [Row.of("part.process", [os.getpid()], config.unit)]


def failing(config: DictConfig) -> list[Row]:
    raise ValueError("enough")


def killed(config: DictConfig) -> list[Row]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def test_a_part_has_a_process_of_its_own_and_says_why_it_fails():
    [row], peak = in_own_process("part", f"{__name__}.its_process", {"unit": "x"})
    assert row.value != os.getpid() and row.unit == "x" and peak > 10
    with pytest.raises(RuntimeError, match=r"(?s)bench=part failed: Traceback.*in failing.*enough"):
        in_own_process("part", f"{__name__}.failing", {})
    with pytest.raises(RuntimeError, match="bench=part failed: .*terminated"):
        in_own_process("part", f"{__name__}.killed", {})


@pytest.mark.slow
def test_a_part_gives_a_table_and_json(tmp_path: Path):
    done = run(
        "benchmark",
        "bench=[sample,postprocess,export]",
        "model.compile=true",
        "repeats=2",
        "images=2",
        "data.geometry.crop_size=[64,64]",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.rglob("benchmark.json")
    result = json.loads(file.read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert {"sample.whole", "sample.targets", "postprocess.quad", "sample.peak_memory"} <= set(rows)
    assert rows["sample.targets"]["goal"] == "<= 1.5" and isinstance(rows["sample.targets"]["met"], bool)
    assert rows["sample.whole"]["value"] > rows["sample.warp"]["value"] > 0 and rows["sample.whole"]["repeats"] == 2
    assert rows["export.write"]["value"] > 0 and rows["export.image"]["value"] > 0, "of a model to be compiled as well"
    assert result["cores"] >= 1 and result["device"] and "postprocess.quad" in done.stdout


@pytest.mark.slow
def test_training_is_timed_beside_batches_in_memory_and_ends(tmp_path: Path):
    """With a loader worker, which ignores SIGTERM: the process of a part has no ``atexit``."""
    done = run("benchmark", "bench=[step,training]", *TINY, "data.num_workers=1", "steps=2", "repeats=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.rglob("benchmark.json")
    rows = {row["name"]: row["value"] for row in json.loads(file.read_text())["rows"]}
    assert rows["training.step"] > 0 and rows["step.whole"] > rows["step.backward"] > 0


@pytest.mark.slow
def test_an_unknown_part_and_an_error_in_one_are_said_in_a_line(tmp_path: Path):
    unknown = run("benchmark", "bench=decoding", cwd=tmp_path)
    assert unknown.returncode == 2 and "no part decoding" in unknown.stderr and "sample" in unknown.stderr
    missing = run("benchmark", "bench=index", "data=sroie", "data.root=nowhere", cwd=tmp_path)
    assert missing.returncode == 2 and "bench=index: image folder not found" in missing.stderr
