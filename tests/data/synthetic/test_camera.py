from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr.data.sources.build import build_sources
from ocr.errors import UserError
from tests.conftest import write_image


def filled(polygon: np.ndarray, like: np.ndarray) -> np.ndarray:
    mask = np.zeros(like.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(polygon - 0.5).astype(int)], 1)
    return mask


@pytest.mark.parametrize("grey", [True, False])
def test_labels_follow_the_page_into_its_picture(grey: bool, tmp_path: Path):
    """A page with one dark word, larger than what is photographed: what is dark on it lies in the word's polygon."""
    page = np.full((2600, 1200, 3), 250, np.uint8)
    page[700:760, 300:600] = 10
    (tmp_path / "img").mkdir()
    cv2.imwrite(str(tmp_path / "img/a.png"), page[..., 0] if grey else page)
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt_a.txt").write_text(
        "300,700,600,700,600,760,300,760,word\n0,0,1200,0,1200,2600,0,2600,###\n", encoding="utf-8"
    )
    inner = {"format": "icdar", "images": "img", "annotations": "gt"}
    spec = {"format": "camera", "of": [inner], "seed": 3, "difficulty": 0.7}
    [source], _ = build_sources([spec], str(tmp_path), "train", True)
    image, truth = source.load(0)
    np.testing.assert_array_equal(image, source.load(0)[0])
    assert image.dtype == np.uint8 and max(image.shape) < 2600
    assert truth.texts == ["word", "###"] and truth.ignore.tolist() == [False, True]
    assert source.counts() == {"images": 1, "instances": 2, "ignored": 1} and source.name(0).endswith(
        "a.png_camera_0.7_3.jpg"
    )
    word, paper = (filled(polygon, image) for polygon in truth.polygons)
    dark = image.max(axis=2) < 70
    assert dark[word > 0].mean() > 0.9
    far = cv2.erode(paper, np.ones((9, 9))) - cv2.dilate(word, np.ones((5, 5))) == 1
    assert not dark[far].any()


def test_pictures_depend_on_the_seed_and_sources_follow_each_other():
    of = [{"format": "synthetic", "count": 2, "seed": 1}, {"format": "synthetic", "count": 3, "seed": 2}]
    sources = [
        build_sources([{"format": "camera", "of": of, "seed": seed}], None, "train", False)[0][0] for seed in (1, 1, 2)
    ]
    a, b, c = sources
    assert len(a) == 5 and [a.name(i)[:11] for i in range(5)] == ["synthetic_1"] * 2 + ["synthetic_2"] * 3
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()
    assert a.load(4)[1].texts == c.load(4)[1].texts
    assert a.load(4)[0].shape != c.load(4)[0].shape or (a.load(4)[0] != c.load(4)[0]).any()


def test_each_picture_of_a_page_has_a_name_of_its_own(tmp_path: Path):
    """Which is no file's: what looks for the picture under its name must not find the page."""
    for name in ("a.png", "a.jpg"):
        write_image(tmp_path / f"img/{name}")
    labels = "".join(f"{name}\t[{{\"transcription\":\"x\",\"points\":[[9,9],[60,9],[60,30],[9,30]]}}]\n"
                     for name in ("a.png", "a.jpg"))  # fmt: skip
    (tmp_path / "label.txt").write_text(labels)
    page = {"format": "paddle", "images": "img", "annotations": "label.txt"}
    taken = [{"format": "camera", "of": [page], **how} for how in ({}, {"seed": 1}, {"difficulty": 0.9})]
    sources, _ = build_sources([page, *taken], str(tmp_path), "val", True)
    names = [source.name(i) for source in sources for i in range(len(source))]
    assert len(names) == len(set(names)) == 8
    assert [name for name in names if Path(name).is_file()] == names[:2]


def test_nothing_to_photograph_is_said_as_for_any_split(tmp_path: Path):
    write_image(tmp_path / "img/a.png")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt_a.txt").write_text("no label", encoding="utf-8")
    inner = {"format": "icdar", "images": "img", "annotations": "gt"}
    with pytest.raises(UserError, match="no usable image"):
        build_sources([{"format": "camera", "of": [inner]}], str(tmp_path), "train", False)


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"seed": 1}, "of is missing"),
        ({"of": [{"format": "synthetic", "count": 2, "seed": 1}], "blur": 3}, "unknown: blur"),
        ({"of": [{"format": "synthetic", "count": 2, "seed": 1}], "difficulty": 2}, "difficulty"),
    ],
)
def test_what_is_wrong_with_a_photographed_source_is_said(spec: dict, message: str):
    with pytest.raises(UserError, match=message):
        build_sources([{"format": "camera", **spec}], None, "train", False)
