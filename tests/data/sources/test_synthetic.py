from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.data.synthetic import fonts
from ocr.data.synthetic.layout import draw_receipt
from tests.conftest import ROOT


def test_a_receipt_depends_on_seed_and_index_alone():
    a, b = SyntheticReceipts(10, 7), SyntheticReceipts(99, 7)
    a.load(3)
    image_a, truth_a = a.load(5)
    image_b, truth_b = b.load(5)
    np.testing.assert_array_equal(image_a, image_b)
    assert truth_a.texts == truth_b.texts
    assert SyntheticReceipts(10, 8).load(5)[1].texts != truth_a.texts
    code = "from ocr.data.sources.synthetic import SyntheticReceipts as S; print(S(10, 7).load(5)[0].sum())"
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(other.stdout) == int(image_a.sum())


def test_quads_are_the_box_of_the_ink_and_an_even_margin():
    for seed in range(4):
        paper, cells = draw_receipt(np.random.default_rng(seed))
        assert len(cells) > 10
        for cell in cells:
            left, top = cell.quad[0].astype(int)
            right, bottom = cell.quad[2].astype(int)
            ys, xs = np.nonzero(paper[max(top, 0) : bottom, max(left, 0) : right] < 255)
            margins = [xs.min() + max(left, 0) - left, ys.min(), right - max(left, 0) - xs.max() - 1]
            assert cell.text.strip() and len(set(margins)) == 1 and 1 <= margins[0] <= 6, cell


def test_photographed_quads_follow_the_paper():
    """Text is darker than the paper around it: the mean inside a quad is below that of a ring around it."""
    import cv2

    source = SyntheticReceipts(6, 3, difficulty=1.0)
    darker = total = 0
    for i in range(6):
        image, truth = source.load(i)
        grey = image.mean(axis=2)
        height, width = grey.shape
        for polygon in truth.polygons:
            assert polygon.shape == (4, 2)
            assert (polygon >= -1).all() and (polygon <= (width + 1, height + 1)).all()
            inside = np.zeros((height, width), np.uint8)
            cv2.fillPoly(inside, [np.round(polygon - 0.5).astype(int)], 1)
            ring = cv2.dilate(inside, np.ones((5, 5))) - inside
            darker += grey[inside > 0].mean() < grey[ring > 0].mean()
            total += 1
    assert darker / total > 0.97


def test_pillows_own_font_is_the_last_resort(tmp_path: Path):
    """With nothing in the folders of the system's fonts, which only a process of its own sees so."""
    code = """
import numpy as np
from ocr.data.synthetic import fonts
from ocr.data.synthetic.layout import draw_receipt
assert fonts.system_fonts() == (), fonts.system_fonts()
paper, cells = draw_receipt(np.random.default_rng(0))
assert len(cells) > 10 and (paper < 128).any()
assert not fonts.has_hangul(None)
print("drawn")
"""
    folders = [place for place in ("/usr/share/fonts", "/usr/local/share/fonts") if Path(place).is_dir()]
    hide = "; ".join(["set -e", *(f"mount -t tmpfs tmpfs {folder}" for folder in folders), 'exec "$@"'])
    alone = ["unshare", "--map-root-user", "--mount"]
    if (
        not shutil.which(alone[0])
        or subprocess.run([*alone, "sh", "-c", hide, "sh", "true"], capture_output=True).returncode
    ):
        pytest.skip("the folders of the system's fonts cannot be hidden from a process here")
    command = [*alone, "sh", "-c", hide, "sh", sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "drawn\n", done.stderr


def test_hangul_is_drawn_where_a_font_has_it():
    with_hangul = [path for path in fonts.system_fonts() if fonts.has_hangul(path)]
    if not with_hangul:
        pytest.skip("no system font with Hangul here (Debian: fonts-nanum)")
    texts = [t for i in range(20) for t in SyntheticReceipts(20, 1).load(i)[1].texts]
    assert any("\uac00" <= c <= "\ud7a3" for t in texts for c in t)
