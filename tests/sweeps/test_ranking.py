"""The ranking of a sweep, from ``metrics.json`` files alone."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ocr.errors import UserError
from ocr.jobs.sweep.leaderboard import command_of, write_leaderboard
from ocr.sweeps.ranking import compare, importance, p_value, rank, read_jobs
from tests.tiny import run

KEYS = ("optimizer.lr", "data.geometry.rotate")


def write_job(folder: Path, number: int, varied: dict[str, str], score: float | None, seed: int = 42, **more) -> Path:
    """``metrics.json`` as a training of a sweep writes it, or ``failure.json`` without a score."""
    name = f"{number}_seed_{seed}" if "seeds" in more else str(number)
    overrides = ["data=sroie", f"seed={seed}", *(f"{k}={v}" for k, v in varied.items()),
                 "++callbacks.pruning.monitor=val/hmean"]  # fmt: skip
    sweep = {
        "name": "s",
        "number": number,
        "seeds": more.get("seeds", 1),
        "varied": varied,
        "metric": "val/hmean",
        "maximize": True,
    }
    content = {"state": more.get("state", "finished"), "seed": seed, "overrides": overrides, "sweep": sweep}
    path = folder / name / "metrics.json"
    if score is None:
        path, content = folder / name / "failure.json", content | {"state": "failed", "reason": more["reason"]}
    else:
        content |= {"val/hmean": score, "test/hmean": 1 - score, "train_images": 8}
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number, (lr, score) in enumerate([("1e-3", 0.6), ("3e-3", 0.9), ("1e-2", 0.8)]):
        write_job(tmp_path, number, {"optimizer.lr": lr}, score)
    write_job(tmp_path, 3, {"optimizer.lr": "1e-4"}, 0.95, state="pruned")
    write_job(tmp_path, 4, {"optimizer.lr": "1.0"}, None, reason="a weight is no longer finite")
    return tmp_path


def test_finished_trials_are_ranked_and_pruned_and_failed_ones_follow(sweep: Path, capsys):
    ranking = write_leaderboard(sweep)
    assert [row.number for row in ranking.rows] == [1, 2, 0, 3, 4]
    rows = list(csv.DictReader((sweep / "sweep.csv").open()))
    assert [row["state"] for row in rows] == ["finished"] * 3 + ["pruned", "failed"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "", ""]
    assert rows[0]["val/hmean"] == "0.900000" and rows[0]["optimizer.lr"] == "3e-3"
    assert rows[4]["reason"] == "a weight is no longer finite"
    assert [path.stat().st_size > 5000 for path in ranking.pictures] == [True, True]
    shown = capsys.readouterr().out
    assert "one seed per trial: no row is called better" in shown and "best " not in shown.split("the best again")[0]
    assert command_of(ranking.rows[0]) == "python runners/train.py data=sroie seed=42 optimizer.lr=3e-3"


def test_a_ranking_by_a_test_figure_is_refused(sweep: Path):
    with pytest.raises(UserError, match=r"val/\.\.\., never by a test"):
        write_leaderboard(sweep, "test/hmean")
    with pytest.raises(UserError, match="no job of a sweep"):
        write_leaderboard(sweep / "0")


def test_less_is_better_where_the_sweep_says_so(sweep: Path):
    for path in sweep.glob("*/metrics.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"sweep": content["sweep"] | {"maximize": False}}))
    assert [row.number for row in write_leaderboard(sweep).rows][:3] == [0, 2, 1]


def test_files_that_are_no_results_are_passed_over(sweep: Path):
    (sweep / "0/metrics.json").write_text('{"val/hmean": 0.9, "swe')
    (sweep / "workers").mkdir()
    (sweep / "workers/metrics.json").write_text("{}")
    (sweep / "1/failure.json").write_text((sweep / "4/failure.json").read_text())  # failed once, then went through
    assert [job.folder.name for job in read_jobs(sweep)] == ["1", "2", "3", "4"]
    assert read_jobs(sweep)[0].state == "finished"


def seeds(folder: Path, number: int, scores: list[float], first: int = 1, planned: int = 0) -> None:
    for k, score in enumerate(scores):
        write_job(folder, number, {"optimizer.lr": f"{number}e-3"}, score, seed=first + k, seeds=planned or len(scores))


def test_rows_are_compared_over_seeds(tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.03, 5)  # of a seed, which all rows share
    seeds(tmp_path, 1, list(0.80 + luck + rng.normal(0, 0.002, 5)))
    seeds(tmp_path, 2, list(0.79 + luck + rng.normal(0, 0.002, 5)))
    seeds(tmp_path, 3, list(0.78 + rng.normal(0, 0.03, 5)), first=100)
    seeds(tmp_path, 4, list(0.50 + rng.normal(0, 0.03, 5)), first=100)
    best, second, third, fourth = rank(read_jobs(tmp_path), "val/hmean", maximize=True)
    assert [row.number for row in (best, second, third, fourth)] == [1, 2, 3, 4]
    paired, welch, far = (compare(best, row) for row in (second, third, fourth))
    assert paired is not None
    assert welch is not None
    assert far is not None
    assert paired.test == "paired t" and paired.differs, "a point apart on every seed, with three between seeds"
    assert welch.test == far.test == "Welch's t" and not welch.differs and far.differs
    write_leaderboard(tmp_path)
    shown = capsys.readouterr().out
    assert shown.count("cannot be told apart from the best") == 1 and shown.count("behind the best") == 2
    assert "not corrected" in shown and "trial 1, seed 1" in shown


@pytest.mark.parametrize(
    "t, freedom, p", [(1.0, 1, 0.5), (12.706, 1, 0.05), (4.303, 2, 0.05), (2.776, 4, 0.05), (3.169, 10, 0.01)]
)
def testp_values_are_those_of_the_tables(t: float, freedom: int, p: float):
    assert p_value(t, 1.0, freedom) == pytest.approx(p, rel=1e-3)


def test_both_tests_give_the_p_values_of_scipy(tmp_path: Path):
    a, b = [0.81, 0.84, 0.79, 0.83], [0.80, 0.78, 0.82, 0.80]
    for number, scores, first in ((1, a, 1), (2, b, 1), (3, b[:3], 100)):
        seeds(tmp_path, number, scores, first)
    rows = {row.number: row for row in rank(read_jobs(tmp_path), "val/hmean", maximize=True)}
    paired, welch = compare(rows[1], rows[2]), compare(rows[1], rows[3])
    assert paired is not None
    assert welch is not None
    assert paired.p == pytest.approx(0.42222518228891187, rel=1e-6)  # scipy 1.17.1: ttest_rel(a, b)
    assert welch.p == pytest.approx(0.3269736787130776, rel=1e-6)  # ttest_ind(a, b[:3], equal_var=False)


def test_equal_rows_and_single_seeds_are_not_told_apart(tmp_path: Path):
    seeds(tmp_path, 1, [0.5, 0.6])
    seeds(tmp_path, 2, [0.5, 0.6])
    seeds(tmp_path, 3, [0.4])
    best, second, third = rank(read_jobs(tmp_path), "val/hmean", maximize=True)
    assert compare(best, third) is None
    assert (same := compare(best, second)) is not None
    assert same.p == 1.0 and not same.differs


def test_a_trial_with_a_failed_seed_is_not_ranked(tmp_path: Path):
    seeds(tmp_path, 1, [0.9, 0.9])
    write_job(tmp_path, 1, {"optimizer.lr": "1e-3"}, None, seed=3, seeds=3, reason="killed")
    seeds(tmp_path, 2, [0.5, 0.5, 0.5])
    assert [(row.number, row.state) for row in write_leaderboard(tmp_path).rows] == [(2, "finished"), (1, "failed")]


def test_a_trial_whose_seeds_are_not_all_done_is_not_ranked(tmp_path: Path, capsys):
    seeds(tmp_path, 1, [0.5, 0.52])
    seeds(tmp_path, 2, [0.9], planned=2)
    assert [(row.number, row.state) for row in write_leaderboard(tmp_path).rows] == [(1, "finished"), (2, "running")]
    assert "one seed per trial" not in capsys.readouterr().out


def test_a_copied_folder_changes_no_ranking(sweep: Path):
    shutil.copytree(sweep / "1", sweep / "1_copy")
    assert [row.number for row in write_leaderboard(sweep).rows][:3] == [1, 2, 0]


def test_odd_values_and_figures_are_shown_and_break_nothing(tmp_path: Path, capsys):
    for number, value in enumerate(["[/foo]", "[red]x[/red]", "nan", "inf", "한글"]):
        write_job(tmp_path, number, {"name": value, "+new.key": str(number)}, 0.1 * number)
    write_job(tmp_path, 5, {"name": "y", "+new.key": "5"}, float("nan"))
    rows = write_leaderboard(tmp_path).rows
    assert [row.number for row in rows] == [4, 3, 2, 1, 0, 5] and rows[-1].state == "failed"
    shown = capsys.readouterr().out
    assert "[/foo]" in shown and "[red]x[/red]" in shown
    for path in tmp_path.glob("*/metrics.json"):
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"sweep": content["sweep"] | {"varied": {}}}))
    assert write_leaderboard(tmp_path).pictures == []


def test_the_last_line_names_the_figure_that_it_ranks_by(sweep: Path, capsys):
    for path in sweep.glob("*/metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"val/precision": 0.7}))
    write_leaderboard(sweep, "val/precision")
    assert "val/precision 0.7000:" in capsys.readouterr().out


def test_importance_finds_the_setting_that_matters(tmp_path: Path):
    pytest.importorskip("sklearn", reason="Optuna's fANOVA needs scikit-learn: make setup EXTRAS=sweep")
    rng = np.random.default_rng(1)
    for number in range(24):
        lr, rotate = 10 ** rng.uniform(-4, -2), rng.uniform(0, 15)
        score = 0.9 - 0.2 * (np.log10(lr) + 3) ** 2 + 0.001 * rotate
        varied = dict(zip(KEYS, (repr(float(lr)), repr(float(rotate)))))
        write_job(tmp_path, number, varied | {"model.neck": ["fpn", "fpn_asf"][number % 2]}, float(score))
    shares = importance(rank(read_jobs(tmp_path), "val/hmean", maximize=True), maximize=True)
    assert set(shares) == {*KEYS, "model.neck"} and shares["optimizer.lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert importance(rank(read_jobs(tmp_path), "val/hmean", True)[:3], True) == {}


def test_make_leaderboard_ranks_a_sweep_that_still_runs(sweep: Path, tmp_path: Path):
    done = run("leaderboard", f"dir={sweep}", "logger.wandb.enabled=false", cwd=tmp_path)
    assert done.returncode == 0 and "ranked by val/hmean" in done.stdout, done.stderr
    missing = run("leaderboard", "dir=nowhere", cwd=tmp_path)
    assert missing.returncode == 2 and "nowhere has no job of a sweep" in missing.stderr
