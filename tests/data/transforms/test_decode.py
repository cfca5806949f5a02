"""No picture, however it was made, is read wrongly in silence or ends a job."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from ocr.data.index.check import read_header
from ocr.data.sources.build import build_sources
from ocr.data.transforms.decode import PIXEL_LIMIT, UndecodableImage, decode
from tests.conftest import quad, write_image

LOSSLESS = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 98, "subsampling": 0}}


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and that holds no pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")),
              (b"IEND", b""))  # fmt: skip
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def page(mode: str = "RGB") -> Image.Image:
    """60 x 40, white with a black square at its top left; in a mode with alpha the white is black, and transparent."""
    image = Image.new("RGBA", (60, 40), (0, 0, 0, 0) if "A" in mode else "white")
    image.paste((0, 0, 0, 255), (0, 0, 20, 16))
    return image.convert(mode)


def looks_like_the_page(pixels: np.ndarray) -> bool:
    wanted = np.full((40, 60, 3), 255, np.uint8)
    wanted[:16, :20] = 0
    return pixels.shape == wanted.shape and np.abs(pixels.astype(int) - wanted).max() < 16


@pytest.mark.parametrize("kind, mode", [("png", "RGBA"), ("png", "LA"), ("webp", "RGBA"), ("tiff", "RGBA"),
                                        ("tiff", "LA")])  # fmt: skip
def test_an_alpha_channel_is_laid_on_white(kind: str, mode: str, tmp_path: Path):
    path = tmp_path / f"a.{kind}"
    page(mode).save(path, **LOSSLESS.get(kind.upper(), {}))
    assert looks_like_the_page(decode(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_tiff_may_have_its_colours_multiplied_by_alpha(mode: str, tmp_path: Path):
    path, entry = tmp_path / "a.tif", struct.pack("<HHI", 338, 3, 1)  # ExtraSamples: 2 for plain alpha, 1 for this
    page(mode).save(path)
    assert path.read_bytes().count(entry + b"\2") == 1
    path.write_bytes(path.read_bytes().replace(entry + b"\2", entry + b"\1"))
    assert looks_like_the_page(decode(path))


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGB"])
def test_a_transparent_colour_is_laid_on_white(mode: str, tmp_path: Path):
    path = tmp_path / "a.png"
    image = Image.new("RGB", (60, 40), (200, 200, 200))
    image.paste((0, 0, 0), (0, 0, 20, 16))
    image = (
        image.convert("L").point(lambda v: 255 * (v > 99)).convert("1")
        if mode == "1"
        else image.convert(mode, palette=Image.Palette.ADAPTIVE)
    )
    transparent = {"P": image.getpixel((59, 39)), "L": 200, "1": 255, "RGB": (200, 200, 200)}[mode]
    image.save(path, transparency=transparent)
    assert looks_like_the_page(decode(path))


def test_half_transparent_ink_is_half_as_dark(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (60, 40), (0, 0, 0, 128)).save(path)
    assert np.unique(decode(path)).tolist() == [127]


@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
@pytest.mark.parametrize("kind, mode", [("jpeg", "RGB"), *product(("png", "webp", "tiff"), ("RGB", "RGBA"))])
def test_any_orientation_is_read_as_a_viewer_shows_it(kind: str, mode: str, shrink: int, tmp_path: Path):
    for orientation in range(1, 9):
        path, exif = tmp_path / f"{orientation}.{kind}", Image.Exif()
        exif[0x0112] = orientation
        image = Image.new("RGBA", (61, 41), (0, 0, 0, 0) if mode == "RGBA" else "white")
        image.paste((0, 0, 0, 255), (0, 0, 20, 16))
        image.convert(mode).save(path, exif=exif, **LOSSLESS.get(kind.upper(), {}))
        shown = Image.new("RGB", (61, 41), "white")
        shown.paste((0, 0, 0), (0, 0, 20, 16))
        shown.getexif()[0x0112] = orientation
        shown = np.asarray(ImageOps.exif_transpose(shown))
        assert read_header(path).size == shown.shape[1::-1], orientation
        size = [-(-side // shrink) for side in shown.shape[1::-1]]
        pixels = decode(path, shrink)
        assert list(pixels.shape[1::-1]) == size, orientation
        wanted = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
        assert np.abs(pixels.astype(int) - wanted).mean() < 12, orientation


def test_a_transparent_page_is_taught_and_tested_on_white(tmp_path: Path):
    (tmp_path / "img").mkdir()
    page("RGBA").save(tmp_path / "img/a.png")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt_a.txt").write_text("0,0,20,0,20,16,0,16,text\n")
    spec = {"format": "icdar", "images": "img", "annotations": "gt"}
    [source], report = build_sources([spec], str(tmp_path), "train", True)
    assert (
        looks_like_the_page(source.load(0)[0]) and looks_like_the_page(source.open(0).pixels(1)) and not report.counts
    )


def damaged(folder: Path) -> dict[str, Path]:
    """Files that bear an image's name and cannot be read as one, by what they are."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    whole = {kind: cv2.imencode(f".{kind}", noise)[1].tobytes() for kind in ("jpg", "png", "tif", "bmp", "webp")}
    contents = {f"cut.{kind}": content[: len(content) // 2] for kind, content in whole.items()}
    contents |= {
        "bomb.png": png(60000, 60000), "above_the_limit.png": png(13378, 13377), "no_pixels.png": png(100, 50),
        "no_width.png": png(0, 50), "empty.jpg": b"", "page.jpg": b"<!doctype html>\n", "wide.png": png(2**21, 1),
        "phone.jpg": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00heicmif1" + b"\0" * 99,
        "postscript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        "two_headers.png": png(40, 60)[:33] + png(60, 40)[8:], "floats.tif": b"",
        "bad_exif.jpg": whole["jpg"][:2] + b"\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff" + whole["jpg"][2:-99],
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    Image.new("F", (60, 40), 0.5).save(folder / "floats.tif")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    (folder / "broken_link.jpg").symlink_to(folder / "nowhere.jpg")
    with (folder / "huge.jpg").open("wb") as file:
        file.write(whole["jpg"])
        file.truncate(20 * 2**30)  # takes no room on the disk
    return {path.name: path for path in folder.iterdir()} | {"gone.jpg": folder / "gone.jpg"}


def test_what_cannot_be_read_is_an_error_of_that_picture_alone(tmp_path: Path):
    for name, path in damaged(tmp_path).items():
        with pytest.raises(UndecodableImage, match=name.replace(".", r"\.")) as raised:
            decode(path)
        assert "\n" not in str(raised.value), name
        with contextlib.suppress(UndecodableImage):  # a sound header without pixels has a size
            assert min(read_header(path).size) > 0, name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error_of_that_picture(tmp_path: Path):
    path = write_image(tmp_path / "a.jpg")
    path.chmod(0)
    for read in (decode, read_header):
        with pytest.raises(UndecodableImage, match="Permission denied"):
            read(path)


def test_pixels_that_are_not_those_of_the_header_are_an_error(tmp_path: Path):
    """An EXIF orientation that Pillow reads and OpenCV does not: boxes would lie on their side."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHII", 0x0112, 4, 1, 6) + b"\0\0\0\0"
    page().save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg").size == (40, 60)
    for shrink in (1, 2):
        with pytest.raises(UndecodableImage, match="its header says 40 x 60 pixels, decoded it has 60 x 40"):
            decode(tmp_path / "a.jpg", shrink)


def test_the_limit_on_pixels_is_one_for_training_and_prediction(tmp_path: Path):
    """A header is enough: neither reads a pixel of what claims more."""
    for side, told in ((13377, "cannot be|truncated|ended"), (13378, f"more than {PIXEL_LIMIT:,} pixels")):
        (tmp_path / "a.png").write_bytes(png(side, 13377))
        for read in (decode, read_header):
            with pytest.raises(UndecodableImage, match=told):
                read(tmp_path / "a.png")
            if side == 13377:
                break  # its header is sound: the index finds out when the image is decoded


def test_a_jpeg_by_another_name_is_read(tmp_path: Path):
    write_image(tmp_path / "img/a.jpg").rename(tmp_path / "img/a.jfif")
    (tmp_path / "gt").mkdir()
    corners = ",".join(f"{v:g}" for point in quad(10, 10) for v in point)
    (tmp_path / "gt/gt_a.txt").write_text(f"{corners},text\n")
    [source], report = build_sources(
        [{"format": "icdar", "images": "img", "annotations": "gt"}], str(tmp_path), "train", True
    )
    assert source.name(0).endswith("a.jfif") and not report.counts


def test_further_pages_of_a_set_are_noted(tmp_path: Path):
    (tmp_path / "img").mkdir()
    page().save(tmp_path / "img/a.tif", save_all=True, append_images=[page(), page()])
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/gt_a.txt").write_text("0,0,20,0,20,16,0,16,text\n")
    spec = {"format": "icdar", "images": "img", "annotations": "gt"}
    [source], report = build_sources([spec], str(tmp_path), "train", strict=True)
    assert report.counts == {"further_pages": 1} and report.problems == 0 and len(source) == 1
    assert "a.tif: 3 pages" in report.examples["further_pages"][0]
    assert read_header(tmp_path / "img/a.tif").pages == 3
