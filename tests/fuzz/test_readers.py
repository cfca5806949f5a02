"""Every reader, and the search for what a folder holds, on real exports with faults in them.

``make fuzz`` runs this with hundreds of thousands of cases: ``FUZZ_EXAMPLES`` is their number per test.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ocr.data.formats import label_format, label_formats
from ocr.data.formats.writers import writable, write_labels
from ocr.data.index.report import Report
from ocr.data.index.sample_index import SampleIndex
from ocr.data.sources.build import resolve_sources
from ocr.data.sources.files import LabelledFiles, build_index
from ocr.errors import UserError, printable
from ocr.types import Sample
from tests.conftest import ROOT, write_format, write_image
from tests.data.formats.test_readers import real_samples
from tests.fuzz.mutations import mutate, mutations

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 120))
SECONDS = 5.0  # a case takes milliseconds
MEGABYTES = 600  # that a test may grow by
NAMES = ("019", "284")
SIZE = (463, 1013)  # of the first real receipt, as some exports state it
CASES = ROOT.parent / "shared" / "cases"

# what the writers of a format do not write, but its tool does
MORE = {
    "coco": [json.dumps({
        "images": [{"id": 1, "file_name": "019.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "categories": [{"id": 1, "name": "text"}, {"id": 2, "name": "receipt"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [10, 10, 60, 20], "attributes": {"rotation": 30.0}},
            {"image_id": "1", "category_id": 2, "iscrowd": 1,
             "segmentation": {"counts": "ZWb13e>0000", "size": [50, 30]}},
            {"image_id": 1, "category_id": 1, "segmentation": {"counts": [100, 20, 1380], "size": [50, 30]}},
        ],
    })],
    "label_studio": [json.dumps([{"image": "/data/local-files/?d=x/019.jpg", "label": [
        {"x": 10.5, "y": 20, "width": 30, "height": 5, "rotation": 12, "rectanglelabels": ["Text"],
         "original_width": SIZE[0], "original_height": SIZE[1]}], "transcription": "TOTAL"}])],
    "cvat": [
        "<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version><meta/>"
        f"<image id='0' name='019.jpg' width='{SIZE[0]}' height='{SIZE[1]}'>"
        "<box label='text' xtl='1.0' ytl='2' xbr='40' ybr='20' rotation='30'><attribute name='text'>1</attribute></box>"
        "<mask label='text' rle='1, 4, 3' left='1' top='1' width='4' height='2'/></image></annotations>"
    ],
    "via": [json.dumps({"_via_img_metadata": {"019.jpg123": {"filename": "019.jpg", "size": 123, "regions": {
        "0": {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 30, "height": 9}, "region_attributes": {}},
        "1": {"shape_attributes": {"name": "ellipse", "cx": 50, "cy": 60, "rx": 9, "ry": 4, "theta": 0.3},
              "region_attributes": {"text": "a"}}}}}, "_via_settings": {}})],
    "labelme": [json.dumps({"version": "5.4.1", "imagePath": "..\\019.jpg", "imageData": None, "imageWidth": SIZE[0],
                            "imageHeight": SIZE[1], "shapes": [
        {"label": "text", "description": "12", "shape_type": "rectangle", "points": [[1, 1], [40, 20]]},
        {"label": "text", "shape_type": "circle", "points": [[90, 90], [95, 95]]}]})],
    "doctr": [json.dumps({"019.jpg": {"img_dimensions": [SIZE[1], SIZE[0]], "img_hash": "0", "polygons": {
        "words": [[[0.1, 0.1], [0.3, 0.1], [0.3, 0.2], [0.1, 0.2]]]}}})],
    "yolo": ["0 0.5 0.5 0.2 0.1\n0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"],
    "icdar": ["10,10,90,10,90,30,10,30,Latin,TOTAL\r\n10 10 90 30\n"],
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small images with the names of the real receipts."""
    folder = tmp_path_factory.mktemp("images")
    for name in NAMES:
        write_image(folder / f"{name}.jpg", *SIZE)
    return folder


def exports(name: str, images: Path, folder: Path) -> list[tuple[str, bytes]]:
    """Sound label files of a format, as they are named and what they hold: of tests, of its writer, of its tool."""
    samples = [Sample(images / s.image.name, s.instances[:6]) for s in real_samples()]
    annotations = [write_format(name, samples, folder / "oracle")[1]]
    if name in writable():
        lines = [{"image": s.image.name, "width": SIZE[0], "height": SIZE[1], "scores": [1.0] * len(s.instances),
                  "polygons": [i.polygon.tolist() for i in s.instances], "texts": [i.text for i in s.instances],
                  "ignore": [k == 1 for k in range(len(s.instances))]} for s in samples]  # fmt: skip
        annotations.append(write_labels(writable()[name], lines, [s.image.name for s in samples], folder, "written"))
    files = [file for path in annotations for file in ([path] if path.is_file() else sorted(path.iterdir())[:1])]
    found = [(file.name, file.read_bytes()) for file in files]
    return found + [(found[0][0], text.encode()) for text in MORE.get(name, [])]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workshop")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def check_message(error: UserError) -> None:
    """Check that the message is one line that a terminal shows."""
    assert str(error).strip()
    assert len(printable(str(error)).splitlines()) == 1


def check_index(index: SampleIndex) -> None:
    """Check that an index has finite polygons of an area, within their images."""
    for i in range(len(index)):
        width, height = index.sizes[i].tolist()
        truth = index.truth(i)
        assert len(truth.polygons) == len(truth.texts) == len(truth.ignore)
        for polygon in truth.polygons:
            assert len(polygon) >= 3
            assert np.isfinite(polygon).all()
            assert polygon.min() >= 0
            assert (polygon.max(axis=0) <= (width, height)).all()


@pytest.mark.parametrize("name", sorted(label_formats()))
def test_a_reader_gives_sound_labels_or_says_why_not(name: str, images: Path, workshop: Path):
    folder = workshop / name
    seeds = exports(name, images, folder)
    per_set = not label_format(name).per_image
    labels = folder / "labels"
    labels.mkdir()
    read = []

    @settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.integers(0, len(seeds) - 1), st.lists(mutations, min_size=1, max_size=4))
    @example(0, [])
    def cases(chosen: int, steps: list) -> None:
        file, content = seeds[chosen]
        (labels / file).write_bytes(mutate(content, steps))
        started = time.perf_counter()
        report = Report(strict=False)
        try:
            index = build_index(LabelledFiles(name, images, labels / file if per_set else labels), report)
        except UserError as error:
            check_message(error)
        else:
            check_index(index)
            read.append(index.instances)
        finally:
            (labels / file).unlink()
        assert time.perf_counter() - started < SECONDS

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases()
    assert sum(read) > 0, "no label was read, so that nothing was tried but refusals"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


def test_the_search_of_a_folder_finds_labels_or_says_what_it_saw(images: Path, workshop: Path):
    seeds = [seed for name in sorted(label_formats()) for seed in exports(name, images, workshop / "search" / name)]
    if CASES.is_dir():
        paths = [p for p in sorted(CASES.rglob("*")) if p.suffix.lower() in (".txt", ".json", ".xml", ".csv", ".yaml")]
        seeds += [(p.name, p.read_bytes()) for p in paths if p.stat().st_size < 100_000]
    folder = workshop / "searched"
    shutil.copytree(images, folder / "images")
    auto = {"format": "auto", "images": "auto", "annotations": "auto", "ids": "auto", "split": "train"}
    found = []

    @settings(max_examples=2 * EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.lists(st.tuples(st.integers(0, len(seeds) - 1), st.lists(mutations, max_size=3)), min_size=1, max_size=2))
    @example([(0, [])])
    def cases(chosen: list) -> None:
        for k, steps in chosen:
            (folder / seeds[k][0]).write_bytes(mutate(seeds[k][1], steps))
        started = time.perf_counter()
        try:
            specs = resolve_sources([auto], str(folder))
        except UserError as error:
            check_message(error)
        else:
            found.extend(specs)
        finally:
            for k, _ in chosen:
                (folder / seeds[k][0]).unlink(missing_ok=True)
        assert time.perf_counter() - started < SECONDS

    cases()
    assert found
