"""A learning curve through the real runner: few small trainings, resumed, refused, fitted again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocr.jobs.make_data import write_icdar
from tests.tiny import OFF, run

pytestmark = pytest.mark.slow
QUICK = [  # stock weights: they read something after a few steps, too
    "model=ppocr_v4", "optimizer=lamb", "optimizer.lr=1e-4", "model.compile=false", "data.geometry.crop_size=[96,96]",
    "model.pipeline.resize.long_side=320", "data.batch_size=4", "data.num_workers=0", "data.epoch_samples=8",
    "trainer=cpu", "trainer.precision=32-true", "trainer.max_epochs=1", "trainer.log_every_n_steps=1", OFF,
]  # fmt: skip


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished curve of receipts in ``set``."""
    pytest.importorskip("rapidocr_onnxruntime", reason="the stock weights come with make setup EXTRAS=ppocr")
    cwd = tmp_path_factory.mktemp("curve")
    images = write_icdar(cwd / "set", 12, 0, 0.0) / "images"
    names = sorted(path.stem for path in images.iterdir())
    (cwd / "set/train.txt").write_text("\n".join(names[:9]))
    (cwd / "set/val.txt").write_text("\n".join(names[9:]))
    done = run("learning_curve", *ARGUMENTS, "curve.held_out=[1.0]", cwd=cwd)
    assert done.returncode == 0, done.stderr
    (cwd / "stdout").write_text(done.stdout)
    return cwd


ARGUMENTS = [
    "data=folder",
    "data.root=set",
    *QUICK,
    "curve.fractions=[0.25,0.5,0.75]",
    "curve.draws=1",
    "curve.output=out",
]


def test_points_are_trainings_on_parts_of_the_set_of_equal_length(curve: Path):
    result = json.loads((curve / "out/learning_curve.json").read_text())
    assert [(p["images"], p["fitted"]) for p in result["points"]] == [
        (2, True), (4, True), (7, True), (9, False)
    ]  # fmt: skip
    assert result["images"] == 9
    steps = set()
    for folder in (curve / "out").glob("fraction_*"):
        assert "keep_start=false" in json.loads((folder / "metrics.json").read_text())["overrides"]
        rows = (folder / "csv/metrics.csv").read_text().splitlines()
        steps.add(max(int(row.split(",")[rows[0].split(",").index("step")]) for row in rows[1:]))
    assert len(steps) == 1
    assert result["score"]["9"]["low"] <= result["score"]["9"]["value"] <= result["score"]["9"]["high"]
    assert "100 more images are worth" in (curve / "stdout").read_text()
    assert (curve / "out/learning_curve.png").stat().st_size > 5000


def test_finished_trainings_are_kept_and_those_of_other_settings_refused(curve: Path):
    before = {path: path.stat().st_mtime_ns for path in (curve / "out").glob("fraction_*/metrics.json")}
    done = run("learning_curve", *ARGUMENTS, cwd=curve)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = run("learning_curve", *ARGUMENTS, "optimizer.lr=1e-3", cwd=curve)
    assert other.returncode == 2
    assert "curve.output=out has trainings with other settings" in other.stderr


def test_trainings_of_a_sweep_are_fitted(curve: Path):
    done = run("learning_curve", *ARGUMENTS[:-1], "curve.output=fitted", "curve.runs=out", cwd=curve)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((curve / "fitted/learning_curve.json").read_text())["points"]) == 4
    none = run("learning_curve", *ARGUMENTS[:-1], "curve.output=fitted", "curve.runs=set", cwd=curve)
    assert none.returncode == 2
    assert "no folder in it has a metrics.json" in none.stderr


@pytest.mark.parametrize("wrong, message", [
    ("curve.fractions=[0.5,0.75]", "needs three trainings of two sizes"), ("curve.fractions=[2.0]", "curve.fractions"),
    ("curve.draw=3", "there is no setting 'curve.draw'"), ("data.train_fraction=0.5", "are what the curve varies"),
])  # fmt: skip
def test_wrong_settings_end_before_a_training_starts(wrong: str, message: str, curve: Path):
    done = run("learning_curve", *ARGUMENTS[:-1], "curve.output=never", wrong, cwd=curve)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((curve / "never").glob("fraction_*"))
