"""Reading and resizing pixels."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ocr.pipeline import ResizePolicy

PIXEL_LIMIT = 178_956_970  # of an image, in training and prediction alike; beyond it Pillow, too, suspects an attack
BYTE_LIMIT = 8 * PIXEL_LIMIT  # of a file: four channels of 16 bits, not compressed
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000")  # OpenCV has them, too
ROTATED_BY_OPENCV = ("JPEG", "MPO", "PNG", "WEBP", "TIFF")
ORIENTATION, WIDTH, HEIGHT = 0x0112, 0x0100, 0x0101  # EXIF and TIFF tags
TRANSPOSES = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # fmt: skip


class UndecodableImage(Exception):
    """An image that cannot be read, or is larger than what is read."""


DECODE_FLAGS = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
          8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip


def shrink_for(scale: float) -> int:
    """Factor (1, 2, 4 or 8) by which an image may be decoded smaller that is then read at a scale."""
    return max(factor for factor in DECODE_FLAGS if factor == 1 or factor * scale <= 1)


def decode(path: Path, shrink: int = 1) -> np.ndarray:
    """Image file to uint8 (H, W, 3), RGB, EXIF orientation applied, transparency laid on white.

    Args:
        shrink: a key of :data:`DECODE_FLAGS`: both sides that many times shorter, rounded up. A JPEG is decoded so at a
            fraction of the cost.

    Raises:
        UndecodableImage: the file cannot be read or decoded, or its pixels are not those that its header describes.
    """
    with named(path), open_file(path) as file:
        data = file.read()
    return decode_data(data, path, shrink)


def decode_data(data: bytes, name: str | Path, shrink: int = 1) -> np.ndarray:
    """The content of an image file as :func:`decode` gives it.

    Args:
        data: the content.
        name: of the file, for messages.
        shrink: see :func:`decode`.

    Raises:
        UndecodableImage: it cannot be decoded, or its pixels are not those that its header describes.
    """
    with named(name), open_image(io.BytesIO(data)) as image:
        width, height = shown_size(image)
        transparent = image.has_transparency_data and not image.mode.startswith("I")  # Pillow bleaches 16-bit grey
        by_decoder = shrink if image.format in ("JPEG", "MPO") else 1
        pixels = _on_white(image) if transparent else _opaque(data, by_decoder)
        expected_size = -(-width // by_decoder), -(-height // by_decoder)
        slack = 0 if by_decoder == 1 else 1
        if any(abs(side - expected) > slack for side, expected in zip(pixels.shape[1::-1], expected_size)):
            decoded = " x ".join(str(side * by_decoder) for side in pixels.shape[1::-1])
            raise UndecodableImage(f"its header says {width} x {height} pixels, decoded it has {decoded}")
    if by_decoder < shrink:
        pixels = cv2.resize(pixels, (-(-width // shrink), -(-height // shrink)), interpolation=cv2.INTER_AREA)
    return pixels


def _opaque(data: bytes, shrink: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), DECODE_FLAGS[shrink])
    if image is None:
        raise UndecodableImage("cannot be decoded")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _on_white(image: Image.Image) -> np.ndarray:
    image.load()  # a TIFF may be turned by it
    ink = image.convert("LA" if image.mode == "La" else "RGBA")  # there is no way from La to RGBA
    if (turn := TRANSPOSES.get(orientation(image))) is not None:
        ink = ink.transpose(turn)
    ink = ink.convert("RGBA")
    sheet = Image.new("RGB", ink.size, "white")
    sheet.paste(ink, mask=ink)
    return np.asarray(sheet)


@contextmanager
def named(name: str | Path) -> Iterator[None]:
    """Put a file's name before what is said of it by an :class:`UndecodableImage`."""
    try:
        yield
    except UndecodableImage as error:
        raise UndecodableImage(f"{name}: {error}") from error


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """An image's file, opened for reading.

    Raises:
        UndecodableImage: it is not there, is larger than any image within the limit, or is no regular file (a named
            pipe would be waited for without end).
    """
    with _undecodable():
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UndecodableImage("not a regular file")
        if status.st_size > BYTE_LIMIT:
            raise UndecodableImage(f"{status.st_size:,} bytes, more than {BYTE_LIMIT:,}")
        with path.open("rb") as file:
            yield file


@contextmanager
def open_image(file: BinaryIO) -> Iterator[Image.Image]:
    """Pillow's view of an image, its pixels not read yet.

    Raises:
        UndecodableImage: the header is unsound or claims more than :data:`PIXEL_LIMIT` pixels, or whatever is done with
            the image fails.
    """
    with _undecodable(), Image.open(file, formats=FORMATS) as image:
        if image.width * image.height > PIXEL_LIMIT:
            raise Image.DecompressionBombError
        yield image


@contextmanager
def _undecodable() -> Iterator[None]:
    try:
        yield
    except UndecodableImage:
        raise
    except UnidentifiedImageError as error:
        raise UndecodableImage("not an image, or in a format that is not read") from error
    except Image.DecompressionBombError as error:
        raise UndecodableImage(f"more than {PIXEL_LIMIT:,} pixels, the limit for training and prediction") from error
    except OSError as error:
        raise UndecodableImage(error.strerror or str(error) or "cannot be read") from error
    except Exception as error:  # decoders fail in many ways over a damaged file, all of them an error of that file
        raise UndecodableImage(f"cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})") from error


def shown_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an image as a viewer shows it, its pixels not read yet."""
    width, height = image.size
    if image.format == "TIFF":  # newer versions of Pillow have turned it already
        tags = image.tag_v2  # type: ignore[attr-defined]
        width, height = tags[WIDTH], tags[HEIGHT]
    return (height, width) if orientation(image) in (5, 6, 7, 8) else (width, height)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, as OpenCV heeds it, which reads no XMP."""
    if image.format == "TIFF":
        return image.tag_v2.get(ORIENTATION, 1)  # type: ignore[attr-defined]
    exif = Image.Exif()
    if image.format in ROTATED_BY_OPENCV:
        exif.load(image.info.get("exif") or b"")
    return exif.get(ORIENTATION, 1)


def resize_and_pad(image: np.ndarray, policy: ResizePolicy, fill: tuple[int, int, int]) -> np.ndarray:
    """Image uint8 (H, W, 3) to network size, padded at the right and bottom with ``fill``."""
    height, width = image.shape[:2]
    content_w, content_h = policy.content_size(width, height)
    if (content_w, content_h) != (width, height):
        shrinking = content_w * content_h < width * height
        image = cv2.resize(
            image, (content_w, content_h), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        )
    return pad(image, policy.multiple, fill)


def pad(image: np.ndarray, multiple: int, fill: tuple[int, int, int]) -> np.ndarray:
    """Image uint8 (H, W, 3) with sides of a multiple, padded at the right and bottom with ``fill``."""
    height, width = image.shape[:2]
    return cv2.copyMakeBorder(image, 0, -height % multiple, 0, -width % multiple, cv2.BORDER_CONSTANT, value=fill)
