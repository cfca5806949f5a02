"""A study of several workers: every trial once, in one process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="sweeps need Optuna: make setup EXTRAS=study")
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from ocr.errors import UserError
from ocr.sweeps.study import JOURNAL, SharedStudy, open_storage, open_study
from tests.conftest import ROOT

SPACE = {"lr": FloatDistribution(1e-4, 1e-2, log=True)}
CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.sweeps.test_study import shared_study
with shared_study(Path(sys.argv[1]), n_trials=3).claim() as trial:
    print(trial.number, flush=True)
    time.sleep(60)
"""
KILLED_IN_ASK = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from optuna.trial import Trial
from tests.sweeps.test_study import shared_study
Trial._suggest = lambda *arguments: os._exit(9)
with shared_study(Path(sys.argv[1]), n_trials=3).claim():
    pass
"""


def shared_study(folder: Path, n_trials: int, **more) -> SharedStudy:
    study = open_study(open_storage(None, folder), "s", maximize=True, pruner=None)
    return SharedStudy(study, folder, SPACE, n_trials, RandomSampler, **more)


def claim_and_tell(shared: SharedStudy) -> tuple[int, float] | None:
    with shared.claim() as trial:
        if trial is None:
            return None
        shared.study.tell(trial.number, 0.5)
        return trial.number, trial.params["lr"]


def test_the_number_of_trials_is_the_total_over_all_workers(tmp_path: Path):
    first = [claim_and_tell(shared_study(tmp_path, 5)) for _ in range(2)]
    second = [claim_and_tell(shared_study(tmp_path, 5)) for _ in range(4)]
    assert [n for n, _ in (*first, *second[:3])] == [0, 1, 2, 3, 4] and second[3] is None
    assert len({lr for _, lr in (*first, *second[:3])}) == 5, "a resume does not draw the same again"


def test_a_trial_of_a_live_process_is_left_alone_and_that_of_a_killed_one_taken_over(tmp_path: Path):
    command = [sys.executable, "-c", CHILD.format(root=str(ROOT)), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "0\n"
            shared = shared_study(tmp_path, 3)
            with shared.claim() as other:
                assert other is not None
                assert other.number == 1, "trial 0 is in use"
                params = shared.trials()[0].params
                child.kill()
                child.wait()
            with shared_study(tmp_path, 3).claim() as taken:
                assert taken is not None
                assert taken.number == 0 and taken.params == params
                taken.report(0.25, 1)
            assert shared.trials()[0].intermediate_values == {1: 0.25}
        finally:
            child.kill()
    assert [t.state for t in shared.trials()] == [TrialState.RUNNING] * 2


def test_a_grid_gives_each_cell_once_in_its_order(tmp_path: Path):
    cells = [{"lr": 1e-3}, {"lr": 2e-3}, {"lr": 3e-3}]
    seen = [claim_and_tell(shared_study(tmp_path, 3, grid=cells)) for _ in range(4)]
    assert seen == [(0, 1e-3), (1, 2e-3), (2, 3e-3), None]
    killed = tmp_path / "killed"
    killed.mkdir()
    shared = shared_study(killed, 3, grid=cells)
    shared.study.enqueue_trial(cells[0])  # a kill between this and the line that asks
    assert [claim_and_tell(shared) for _ in range(4)] == seen


def test_a_kill_in_the_middle_of_a_choice_loses_no_trial(tmp_path: Path):
    command = [sys.executable, "-c", KILLED_IN_ASK.format(root=str(ROOT)), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 9
    [begun] = shared_study(tmp_path, 3).trials()
    assert begun.state is TrialState.RUNNING and begun.params == {}
    assert [n for n, _ in (claim_and_tell(shared_study(tmp_path, 2)) for _ in range(2))] == [0, 1]
    assert claim_and_tell(shared_study(tmp_path, 2)) is None


def test_a_damaged_journal_is_named(tmp_path: Path):
    assert claim_and_tell(shared_study(tmp_path, 3)) is not None
    journal = tmp_path / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:1], "garbage{\n", *lines[1:]]))
    with pytest.raises(UserError, match=r"the study is damaged \(study\.log"):
        shared_study(tmp_path, 3)


def test_a_journal_whose_last_line_was_cut_is_gone_on_with(tmp_path: Path):
    assert claim_and_tell(shared_study(tmp_path, 3)) is not None
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')
    assert claim_and_tell(shared_study(tmp_path, 3)) is not None
    assert len(shared_study(tmp_path, 3).trials()) == 2
    assert journal.read_bytes().startswith(whole)


def test_a_database_serves_as_storage_and_one_that_is_not_there_is_named(tmp_path: Path):
    address = f"sqlite:///{tmp_path}/study.db"
    study = open_study(open_storage(address, tmp_path), "s", maximize=False, pruner=None)
    assert claim_and_tell(SharedStudy(study, tmp_path, SPACE, 1, RandomSampler)) is not None
    assert study.best_trial.number == 0 and not (tmp_path / JOURNAL).exists()
    with pytest.raises(UserError, match=r"sweep\.storage: "):
        open_storage("postgresql://nowhere.invalid/x", tmp_path)


def test_workers_that_see_other_disks_do_not_exceed_the_number_of_trials(tmp_path: Path):
    address = f"sqlite:///{tmp_path}/study.db"
    studies = [open_study(open_storage(address, tmp_path), "s", maximize=True, pruner=None) for _ in range(2)]
    a, b = (SharedStudy(study, tmp_path / str(k), SPACE, 1, RandomSampler) for k, study in enumerate(studies))
    with a.claim() as mine:
        assert mine is not None
        with b.claim() as theirs:
            assert theirs is None, "neither a second trial nor the one that another disk's worker runs"
