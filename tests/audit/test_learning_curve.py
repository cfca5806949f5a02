"""The fitted curve, its bands, and the parts of a set that it is fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocr.audit.learning_curve import LearningCurve
from ocr.data.index.report import Report
from ocr.data.sources.build import build_source
from ocr.data.sources.subset import draw_subset
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.errors import UserError
from tests.conftest import write_image


def test_a_power_law_is_found_again_and_without_noise_its_band_has_no_width():
    images = [50, 50, 100, 100, 200, 200]
    curve = LearningCurve.fit(images, [1 - 2 * n**-0.5 for n in images])
    assert -curve.slope == pytest.approx(0.5)
    for n in (25, 400, 5000):
        score = curve.score(n)
        assert score.value == pytest.approx(1 - 2 * n**-0.5)
        assert score.high - score.low < 1e-6
    assert curve.gain(400, 100).value == pytest.approx(2 * 400**-0.5 - 2 * 500**-0.5)


def test_the_band_holds_as_many_new_trainings_as_it_says():
    rng = np.random.default_rng(1)
    images = np.array([65, 65, 130, 130, 260, 260])
    within = gains = 0
    for _ in range(400):
        errors = 1.5 * images**-0.4 * np.exp(rng.normal(0, 0.1, 6))
        curve = LearningCurve.fit(images.tolist(), (1 - errors).tolist())
        score, gain = curve.score(521), curve.gain(521, 100)
        new = 1 - 1.5 * 521**-0.4 * np.exp(rng.normal(0, 0.1))
        within += score.low <= new <= score.high
        gains += gain.low <= 1.5 * 521**-0.4 - 1.5 * 621**-0.4 <= gain.high
    assert within / 400 == pytest.approx(0.9, abs=0.05)
    assert gains / 400 == pytest.approx(0.9, abs=0.05)


def test_scores_that_do_not_rise_have_no_gain_and_perfect_ones_a_finite_curve():
    curve = LearningCurve.fit([50, 50, 100, 100], [0.9, 0.91, 0.9, 0.91])
    assert curve.gain(100, 100).low < 0 < curve.gain(100, 100).high
    assert np.isfinite(LearningCurve.fit([50, 100, 200], [0.9, 1.0, 1.0]).score(400).value)


@pytest.mark.parametrize("images, scores", [([], []), ([50, 100], [0.5, 0.6]), ([50, 50, 50], [0.5, 0.6, 0.7])])
def test_too_few_trainings_are_refused(images: list[int], scores: list[float]):
    with pytest.raises(UserError, match="needs three trainings of two sizes"):
        LearningCurve.fit(images, scores)


@pytest.fixture
def source(tmp_path: Path):
    (tmp_path / "gt").mkdir()
    for k in range(16):
        write_image(tmp_path / f"img/{k}.png")
        (tmp_path / f"gt/{k}.txt").write_text("10,10,60,10,60,30,10,30,x\n")
    return build_source({"format": "icdar", "images": "img", "annotations": "gt"}, tmp_path, Report())


def names(sources: list) -> set[str]:
    return {Path(s.name(i)).name for s in sources for i in range(len(s))}


def test_parts_of_a_draw_lie_within_one_another_and_halves_share_nothing(source):
    def part(fraction: float, draw: int) -> set[str]:
        return names(draw_subset([source], fraction, draw))

    assert part(1.0, 0) == part(1.0, 3) == names([source])
    for draw in range(4):
        assert part(0.125, draw) < part(0.25, draw) < part(0.5, draw)
        assert [len(part(f, draw)) for f in (0.01, 0.125, 0.25, 0.5)] == [1, 2, 4, 8]
    assert not part(0.5, 0) & part(0.5, 1)
    assert len(set.union(*(part(0.25, draw) for draw in range(4)))) == 16


def test_what_is_no_files_stays_whole_and_alone_is_refused(source):
    drawn = SyntheticReceipts(count=3, seed=1)
    kept, other = draw_subset([source, drawn], 0.25, 0)
    assert (len(kept), other) == (4, drawn)
    with pytest.raises(UserError, match="takes a part of images that are files"):
        draw_subset([drawn], 0.5, 0)
