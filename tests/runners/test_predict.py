"""predict.py on pictures as people have them: all that can be read is, and the rest is counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.training.callbacks.predictions import append
from tests.data.transforms.test_decode import png
from tests.tiny import OFF, run, run_folder, started, wait_for

pytestmark = pytest.mark.slow
CPU = ("accelerator=cpu", "num_workers=0")
STRANGE = "영수증 2024=01,[1]"


def receipt(i: int = 0) -> np.ndarray:
    """One of those that the detector has learned, uint8 (H, W, 3), black on white."""
    image, _ = SyntheticReceipts(4, 1, difficulty=0).load(i)
    return np.minimum(image, image.min(axis=2, keepdims=True))


def in_transparent_ink(image: np.ndarray) -> Image.Image:
    """The same when it is laid on white; on black it would be black all over."""
    return Image.fromarray(np.concatenate([0 * image, 255 - image[..., :1]], axis=2), "RGBA")


def lines_of(output: Path) -> list[dict]:
    with (output / "predictions.jsonl").open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with what may lie in one."""
    folder, page = tmp_path / "pictures", Image.fromarray(receipt())
    (folder / "below").mkdir(parents=True)
    page.save(folder / "plain.png")
    in_transparent_ink(receipt()).save(folder / "transparent.png")
    page.save(folder / f"below/{STRANGE}.png")
    page.save(folder / "line\u2028separator.png")
    page.save(os.fsencode(folder) + b"/not utf-8 \xff.png")
    page.save(folder / f"{'n' * 250}.jpg", quality=98)
    page.save(folder / "photo.jfif", "JPEG", quality=98)
    page.save(folder / "pages.tif", save_all=True, append_images=[page])
    cv2.imwrite(str(folder / "scan.png"), receipt()[..., 0].astype(np.uint16) << 4)  # 12 of 16 bits
    cv2.imwrite(str(folder / "strip.png"), np.full((70_000, 16), 255, np.uint8))  # longer than a JPEG can be
    (folder / "bomb.png").write_bytes(png(60_000, 60_000))
    (folder / "page.jpg").write_text("<!doctype html>")
    os.mkfifo(folder / "pipe.jpg")
    page.save(folder / "still.gif")
    (folder / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4")
    (folder / "labels").write_text("no suffix")
    (folder / "elsewhere").symlink_to(tmp_path)
    return folder


def test_all_that_can_be_read_is_and_the_rest_is_counted(learned: Path, pictures: Path, tmp_path: Path):
    output = tmp_path / "found"
    (output / "overlays").mkdir(parents=True)
    for name in ("00042_of an earlier job.jpg", "of the user.jpg"):
        (output / "overlays" / name).write_bytes(b"")
    done = run("predict", f"ckpt_path={learned}", f"source={pictures}", f"output={output}", "overlays=true",
               "formats=[coco,paddle,competition,competition_csv]", "batch_size=4", *CPU, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = lines_of(output)
    names = [os.path.relpath(os.fsencode(line["image"]), os.fsencode(pictures)).decode("utf-8", "replace")
             for line in lines]  # fmt: skip
    readable = [f"below/{STRANGE}.png", "line\u2028separator.png", f"{'n' * 250}.jpg", "not utf-8 \ufffd.png",
                "pages.tif", "photo.jfif", "plain.png", "scan.png", "strip.png", "transparent.png"]  # fmt: skip
    assert names == readable, "in the order of the data, whatever the batches were made of"
    boxes = dict(zip(names, (len(line["polygons"]) for line in lines)))
    assert boxes["transparent.png"] == boxes["plain.png"] > 3
    assert boxes["pages.tif"] == boxes[f"below/{STRANGE}.png"] == boxes["plain.png"] and not boxes["strip.png"]
    table = {k.strip(): v.strip() for k, v in (row.split("│")[1:3] for row in done.stdout.splitlines() if "│" in row)}
    assert table["images"] == "10" and table["text instances"] == str(sum(boxes.values())) and table["not read"] == "3"
    assert table["not looked at"] == "1 .gif, 1 .heic, 1 .pdf, 1 linked folder, 1 no suffix"
    assert table["noted"] == "1 further pages, 1 illegible, 1 nearly black"
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for name in ("bomb.png", "page.jpg", "pipe.jpg", "pages.tif", "scan.png", "still.gif"):
        assert sum(name in line for line in said.splitlines()) == 1, f"one line on {name}"
    assert sum("resize.max_aspect=4" in line for line in said.splitlines()) == 1
    drawn = set((output / "overlays").iterdir()) - {output / "overlays/of the user.jpg"}
    assert len(drawn) == 9 and all(cv2.imdecode(np.fromfile(p, np.uint8), 1) is not None for p in drawn)
    assert "longer than a JPEG can be" in said and len(json.loads((output / "coco.json").read_text())["images"]) == 10


def test_small_print_of_each_photo_is_read_larger(tmp_path: Path):
    """Two photos of equal size share a pass; each is read again from its own file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    page = receipt()
    for name, place in (("left", 40), ("right", 1700)):
        photo = np.full((2400, 3200, 3), 60, np.uint8)
        small = cv2.resize(page, None, fx=1100 / page.shape[0], fy=1100 / page.shape[0], interpolation=cv2.INTER_AREA)
        photo[600 : 600 + small.shape[0], place : place + small.shape[1]] = small
        cv2.imwrite(str(folder / f"{name}.png"), photo)
    found = {}
    for height in (0, 40):
        output = tmp_path / str(height)
        done = run("predict", "ckpt_path=receipts-small", f"source={folder}", f"output={output}", "batch_size=2",
                   f"legible_height={height}", *CPU, cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[height] = [np.array([np.mean(p, axis=0) for p in line["polygons"]]) for line in lines_of(output)]
    for left, right in found.values():
        assert len(left) == len(right) > 5 and left[:, 0].max() < 1600 < right[:, 0].min()
    assert not np.array_equal(found[0][0], found[40][0]), "the enlarged pass is another one"


def test_nothing_that_can_be_read_is_an_error(learned: Path, tmp_path: Path):
    source = tmp_path / f"{STRANGE}.jpg"
    source.write_text("<!doctype html>")
    done = run("predict", f"ckpt_path={learned}", f"source='{source}'", f"output={tmp_path}/found", *CPU, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "none of 1 image(s) could be read" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "found/predictions.jsonl").read_text()
    (tmp_path / "others").mkdir()
    (tmp_path / "others/phone.heic").touch()
    done = run(
        "predict", f"ckpt_path={learned}", f"source={tmp_path}/others", f"output={tmp_path}/x", *CPU, cwd=tmp_path
    )
    assert done.returncode == 2 and "no image in it, but 1 .heic" in done.stderr and not (tmp_path / "x").exists()


def test_a_job_that_is_killed_leaves_what_it_found_and_the_next_one_replaces_it(learned: Path, tmp_path: Path):
    folder, output = tmp_path / "pictures", tmp_path / "found"
    folder.mkdir()
    for k in range(30):
        Image.fromarray(receipt(k % 4)).save(folder / f"{k:02d}.png")
    arguments = (f"ckpt_path={learned}", f"source={folder}", f"output={output}", *CPU)
    slow = ("resize.long_side=2560", "resize.max_upscale=9")
    with started("predict", *arguments, *slow, cwd=tmp_path) as process:
        wait_for(lambda: (output / "predictions.jsonl").is_file() and (output / "predictions.jsonl").read_text())
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = lines_of(output)
    assert 0 < len(left) < 30 and [Path(line["image"]).stem for line in left] == [f"{k:02d}" for k in range(len(left))]
    for k in range(3, 30):
        (folder / f"{k:02d}.png").unlink()
    done = run("predict", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [Path(line["image"]).stem for line in lines_of(output)] == ["00", "01", "02"]


def test_lines_of_several_processes_are_in_the_order_of_the_data(learned: Path, tmp_path: Path):
    done = run("test", f"ckpt_path={learned}", "data.num_workers=0", "trainer=ddp_cpu", OFF,
               "name=several", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path, "several")
    alone, several = lines_of(learned), lines_of(folder)
    assert [line["image"] for line in several] == [line["image"] for line in alone]
    counts = [len(line["polygons"]) for line in alone]
    assert [len(line["polygons"]) for line in several] == counts and min(counts) > 3
    assert [p.name for p in folder.glob("predictions*")] == ["predictions.jsonl"]


def test_a_simulated_photograph_is_drawn_on_as_it_is(learned: Path, tmp_path: Path):
    """Its boxes on the page that it was made of would lie anywhere."""
    for name in ("img", "gt"):
        (tmp_path / name).mkdir()
    image, truth = SyntheticReceipts(4, 1, difficulty=0).load(0)
    Image.fromarray(image).save(tmp_path / "img/a.png")
    labels = [",".join(f"{v:g}" for v in polygon.ravel()) + ",text\n" for polygon in truth.polygons]
    (tmp_path / "gt/gt_a.txt").write_text("".join(labels))
    page = f"{{format:icdar,images:img,annotations:gt,root:{tmp_path}}}"
    done = run("test", f"ckpt_path={learned}", f"data.test=[{page},{{format:camera,of:[{page}]}}]", "overlays=2",
               "data.num_workers=0", "trainer=cpu", OFF, "name=both", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = run_folder(tmp_path, "both")
    plain, simulated = lines_of(folder)
    assert plain["image"] == str(tmp_path / "img/a.png") and simulated["image"] == f"{plain['image']}_camera_0.5_0.jpg"
    drawn = [cv2.imread(str(path)) for path in sorted((folder / "overlays").iterdir())]
    assert [d.shape[1::-1] for d in drawn] == [(line["width"], line["height"]) for line in (plain, simulated)]
    assert drawn[0].shape != drawn[1].shape


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_leaves_whole_lines(tmp_path: Path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(OSError, match="No space left"):
            for k in range(100):
                append(tmp_path / "predictions.jsonl", json.dumps({"k": k, "text": "x" * 5000}) + "\n")
        assert [line["k"] for line in lines_of(tmp_path)] == list(range(k)) and 5 < k < 99
    finally:
        subprocess.run(["umount", tmp_path], check=True)
