from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocr.data.sources.build import build_sources
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.data.synthetic.paper import MIN_GAP, Paper, ShopStyle
from ocr.data.synthetic.shop import draw_shop_receipt
from ocr.errors import UserError

STYLE = ShopStyle((None,))
FONTS = {"format": "synthetic", "style": "shop", "count": 1, "seed": 1}


@pytest.mark.parametrize("seed", range(12))
def test_texts_of_a_row_stand_apart_and_none_lies_on_another(seed: int):
    _, cells = draw_shop_receipt(np.random.default_rng(seed), STYLE)
    boxes = np.array([[*cell.quad[0], *cell.quad[2]] for cell in cells])
    assert len(cells) > 8
    for k, a in enumerate(boxes):
        for b in boxes[k + 1 :]:
            shared = min(a[3], b[3]) - max(a[1], b[1])
            gap = max(a[0], b[0]) - min(a[2], b[2])
            lower = min(a[3] - a[1], b[3] - b[1])
            if shared > 0.5 * lower:
                assert gap > 0, (cells[k].text, a, b)


def test_texts_that_are_two_stand_at_least_the_height_of_their_type_apart():
    for seed in range(20):
        paper = Paper(np.random.default_rng(seed), STYLE)
        paper.row(["MILK AND SOME MORE WORDS THAN THERE IS ROOM", "12.00"], [(paper.left, "l"), (paper.right, "r")])
        if len(paper.cells) == 2:
            pad = max(1, round(paper.size * 0.12))
            left, right = sorted((cell.quad for cell in paper.cells), key=lambda q: q[0, 0])
            assert right[0, 0] - left[1, 0] + 2 * pad >= MIN_GAP * paper.size - 2


def test_each_text_has_ink_in_its_box():
    for seed in range(6):
        paper, cells = draw_shop_receipt(np.random.default_rng(seed), STYLE)
        for cell in cells:
            (left, top), (right, bottom) = cell.quad[0].astype(int), cell.quad[2].astype(int)
            inside = paper[max(top, 0) : bottom, max(left, 0) : right].astype(int)
            assert inside.max() - inside.min() > 20, cell


def test_a_shop_receipt_depends_on_seed_index_and_settings_alone():
    one, same = (SyntheticReceipts(count, 3, style="shop") for count in (4, 9))
    np.testing.assert_array_equal(one.load(2)[0], same.load(2)[0])
    other = SyntheticReceipts(4, 3, style="shop", effects={"curl": 1.0})
    plain = SyntheticReceipts(4, 3)
    assert len({source.fingerprint() for source in (one, other, plain)}) == 3
    assert len({source.name(0) for source in (one, plain)}) == 2
    assert not np.isin(plain.identities(), one.identities()).any()


def test_fonts_of_a_folder_are_used(tmp_path: Path):
    (tmp_path / "print").mkdir()
    with pytest.raises(UserError, match="no font"):
        SyntheticReceipts(1, 1, style="shop", fonts=str(tmp_path))
    (tmp_path / "print/broken.ttf").write_bytes(b"no font at all")
    with pytest.raises(UserError, match="without Latin letters"):
        build_sources([FONTS | {"fonts": str(tmp_path)}], None, "train", True)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"style": "fancy"}, "style is plain or shop"),
        ({"style": "shop", "alphabets": ["runes"]}, "alphabets are some of"),
        ({"fonts": "somewhere"}, "settings of style=shop"),
        ({"effects": {"rain": 1}}, "unknown effect 'rain'"),
        ({"effects": {"curl": 2}}, "effects.curl is a probability"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        SyntheticReceipts(1, 1, **settings)
