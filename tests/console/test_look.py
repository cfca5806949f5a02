"""Look and Try: figures that are those of a test, thresholds that move them, pictures that come from anywhere."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ocr.console.jobs.runs import find_runs
from ocr.console.resident.detectors import look, paths_of
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.drawing.polygons import FALSE, FOUND, MISSED, hex_code
from ocr.errors import UserError
from ocr.jobs.command_line.compose import register_resolvers
from ocr.jobs.make_data import write_icdar
from tests.conftest import ROOT
from tests.console.serving import Served, give_data, served

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(learned: Path, tmp_path: Path) -> Path:
    """A folder of runs with one that has learned something."""
    shutil.copytree(learned, tmp_path / "runs/learned/2026-01-01_00-00-00_aaaaaa")
    return tmp_path / "runs"


def view_of(runs: Path, split: str = "test", **changes: Any) -> dict[str, Any]:
    [run] = find_runs(runs)
    view = {"checkpoint": str(run.checkpoints["best.ckpt"]), "split": split, "root": "", "folders": [str(runs)]}
    return view | {"accelerator": "cpu"} | changes


def seen(view: dict[str, Any]) -> dict[str, Any]:
    register_resolvers()
    described = look(view, "advance", images=0)
    while described["done"] < described["images"]:
        described = look(view, "advance", images=described["images"])
    return described


def test_its_figures_are_those_of_the_test_and_move_with_the_thresholds(runs: Path):
    [run] = find_runs(runs)
    view, tested = view_of(runs), json.loads((run.folder / "metrics.json").read_text())
    described = seen(view)
    assert described["images"] == described["seen"] == 4 and described["note"] == ""
    found = look(view, "figures", sliders=described["stored"])
    assert (
        found["images"] == 4
        and found["hmean"] == pytest.approx(tested["test/hmean"], abs=5e-3)
        and found["hmean"] > 0.5
    )
    answer = look(view, "evaluate", sliders=described["stored"], restart=True)
    while "scores" not in answer:
        answer = look(view, "evaluate", sliders=described["stored"], restart=False)
    for name in ("hmean", "deteval_hmean", "cleval_hmean", "mean_iou"):
        assert answer["scores"][name] == pytest.approx(tested[f"test/{name}"], abs=5e-3), name
    higher = look(view, "figures", sliders={"box_thresh": 0.97})
    assert higher["recall"] < found["recall"]
    rows = {row["index"]: row for row in found["rows"]}
    assert sum(row["texts"] - row["matched"] for row in rows.values()) == sum(len(r["missed"]) for r in rows.values())
    assert sum(row["detected"] - row["matched"] for row in rows.values()) == sum(len(r["false"]) for r in rows.values())
    assert all(height > 0 for row in rows.values() for _, height in row["missed"])
    [drawn] = look(view, "polygons", sliders=described["stored"], indices=[found["rows"][0]["index"]])
    kinds = [text["kind"] for text in drawn["texts"]]
    assert kinds.count("found") == found["rows"][0]["matched"] and drawn["texts"][0]["text"]
    torch.save(torch.load(view["checkpoint"], weights_only=True), view["checkpoint"])
    written_again = look(view, "figures", sliders=described["stored"])
    assert written_again["images"] == 0 and "hmean" not in written_again, "no figure of nothing"
    assert written_again["generation"] != found["generation"]
    with pytest.raises(UserError, match="wait until the sample"):
        look(view, "keep", sliders=described["stored"])
    seen(view)
    with pytest.raises(UserError, match="box_thresh must lie in"):
        look(view, "figures", sliders={"box_thresh": 2})
    with pytest.raises(UserError, match="no such picture"):
        look(view, "picture", index=99, layer="photo")
    layer = Image.open(look(view, "picture", index=drawn["index"], layer="map"))
    assert np.asarray(layer)[..., 3].max() > 200 and layer.mode == "RGBA"


def test_what_is_kept_is_a_checkpoint_chosen_on_that_split(runs: Path):
    view = view_of(runs)
    described = seen(view)
    file = Path(look(view, "keep", sliders=described["stored"] | {"thresh": 0.21, "box_thresh": 0.43}))
    content = torch.load(file, weights_only=True)
    stored = content["hyper_parameters"]["pipeline"]["postprocess"]
    assert (stored["thresh"], stored["box_thresh"]) == (0.21, 0.43) and content["tuned"]["by"] == "hand"
    [run] = find_runs(runs)
    assert list(run.checkpoints) == ["best.ckpt", "last.ckpt", file.name]
    kept = seen(view_of(runs, checkpoint=str(file)))
    assert "chosen on 4 of 4" in kept["note"]
    assert kept["stored"]["thresh"] == 0.21


def test_data_of_other_folders_are_not_shown(runs: Path, tmp_path: Path):
    data = {"train": [{"format": "icdar", "images": "img", "annotations": "gt"}], "root": str(tmp_path / "elsewhere")}
    assert {str(path) for path in paths_of(data["train"], data["root"])} == {
        str(tmp_path / f"elsewhere{part}") for part in ("", "/img", "/gt")
    }
    data["train"] = [{"format": "camera", "of": [{"format": "icdar", "images": "/img", "root": "s3://x"}]}]
    assert set(map(str, paths_of(data["train"], data["root"]))) == {"s3://x", "/img"}
    view = view_of(runs, "val")
    write_icdar(tmp_path / "elsewhere", 2, 0, 0.0)
    give_data(Path(view["checkpoint"]), tmp_path / "elsewhere", "val")
    register_resolvers()
    with pytest.raises(UserError, match="elsewhere.*data_folders"):
        look(view, "advance", images=0)
    allowed = look(view | {"folders": [str(tmp_path)]}, "advance", images=1)
    assert (allowed["images"], allowed["done"]) == (2, 1)


def upload(console: Served, content: bytes, name: str = "a.jpg", detector: str = "ppocr_v4") -> tuple[int, str]:
    """(status, text or where it leads) of a dropped file."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="detector"\r\n\r\n{detector}\r\n'.encode(),
        f'--x\r\nContent-Disposition: form-data; name="photo"; filename="{name}"\r\n\r\n'.encode(),
        content,
        b"\r\n--x--\r\n",
    ]
    headers = {**console.cookie, "Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{console.base}/try", b"".join(parts), headers)
    try:
        with urllib.request.urlopen(request, timeout=200) as answer:
            return answer.status, answer.geturl().removeprefix(console.base)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def png(width: int, height: int) -> bytes:
    """A white PNG of a few kilobytes, whatever its size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((width + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x01\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_dropped_picture_is_read_refused_and_kept(tmp_path: Path):
    pytest.importorskip("rapidocr_onnxruntime", reason="the stock weights come with make setup EXTRAS=ppocr")
    pixels, truth = SyntheticReceipts(1, 5, difficulty=0.0).load(0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with served(tmp_path, "upload_mb=1", "upload_megapixels=30") as console:
        status, where = upload(console, file.getvalue(), "<script>alert(1)<%2Fscript>.png")
        assert status == 200
        page = console.ask(where)[1]
        assert "&lt;script&gt;" in page and "<script>alert" not in page and "cold" in page
        found = json.loads(console.ask(f"{where}/predictions.json")[1])
        assert len(found["polygons"]) == len(found["scores"]) > len(truth.polygons) / 2
        assert (found["width"], found["height"]) == pixels.shape[1::-1]
        again = upload(console, file.getvalue())[1]
        assert json.loads(console.ask(f"{again}/predictions.json")[1])["seconds"] < 5
        assert "cold" not in console.ask(again)[1]
        for name in ("icdar", "label_studio"):
            for dropped in (where, again):
                assert (
                    f"polygon(s) are in {tmp_path}/runs/to_label/{name}"
                    in console.ask(f"{dropped}/keep", {"format": name})[1]
                )
            assert console.ask(f"{again}/keep", {"format": name})[0] == 409, "not over what a person has corrected"
        labels = tmp_path / "runs/to_label/icdar/labels"
        assert len(list(labels.iterdir())) == 2
        assert all(len(path.read_text().splitlines()) == len(found["polygons"]) for path in labels.iterdir())
        files = [*(tmp_path / "runs/to_label/label_studio").glob("*/*.json")]
        assert [len(json.loads(file.read_text())) for file in files] == [1, 1]
        assert console.ask(f"{where}/keep", {"format": "../x"})[0] == 422
        assert "on a side" in upload(console, png(70_000, 10))[1]
        wrong = [b"GIF89a?", b"", png(60_000, 60_000), file.getvalue()[:-300]]
        for content, words in ((png(20_000, 5_000), "megapixels"), *((content, "no picture") for content in wrong)):
            status, text = upload(console, content)
            assert status == 400 and words in text, text
        with contextlib.suppress(urllib.error.URLError):  # the answer comes before all is sent
            assert upload(console, b"\xff" * 1_100_000) == (413, "more than 1 MB")
        assert upload(console, file.getvalue(), detector="/etc/passwd")[0] == 422
        for path in ("/try/0123456789abcdef", f"{where}/../../x", f"{where}/x.jpg"):
            assert console.ask(path)[0] == 404


def test_addresses_of_predictions_take_numbers_and_known_names_alone(runs: Path):
    [run] = find_runs(runs)
    with served(runs.parent) as console:
        for path, status in (
            (f"/look/{run.id}/figures?thresh=nan", 422), (f"/look/{run.id}/figures?split=..", 404),
            (f"/look/{run.id}/figures?checkpoint=../../x", 404), (f"/look/{run.id}/secret/0", 404),
            (f"/look/{run.id}/thumb/{'9' * 5000}", 404), (f"/look/{run.id}/figures?root=~nobody_here/x", 422),
            (f"/look/{run.id}/figures?root=%00", 422),
            (f"/look/{run.id}/figures?root=/etc", 422), ("/look/0/figures", 404), (f"/look?run={run.id[:-1]}", 404),
            (f"/look/{run.id}/keep", 405),
        ):  # fmt: skip
            assert console.ask(path)[0] == status, path
        assert json.loads(console.ask(f"/look/{run.id}/progress?images=x", Accept="application/json")[1])["images"] == 4
        status, text = console.ask(f"/look/{run.id}/figures?split=test&thresh=7", Accept="application/json")
        assert status == 400 and "thresh must lie in" in json.loads(text)["error"]


def test_outlines_have_the_colours_of_the_pictures_in_wandb():
    style = (ROOT / "ocr/console/static/console.css").read_text()
    for name, colour in (("found", FOUND), ("missed", MISSED), ("false", FALSE)):
        assert f"--{name}: {hex_code(colour)};" in style
