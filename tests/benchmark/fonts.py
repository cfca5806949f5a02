"""The fonts of ``data=receipts`` from Debian's packages: ``python -m tests.benchmark.fonts <folder>``.

The folder gets ``train`` and ``held_out``, each with ``print`` and ``handwriting``. Needs ``apt-get`` and ``dpkg``;
nothing is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import ImageFont

TRAIN = (
    "3270", "anonymous-pro", "bebas-neue", "breip", "courier-prime", "dkg-handwriting", "dotgothic16",
    "femkeklaver", "firacode", "gnutypewriter", "go", "hack-ttf", "inconsolata", "jetbrains-mono", "kristi", "lato",
    "liberation", "ocr-a", "ocr-b", "open-sans", "roboto-unhinted", "rufscript", "sixtyfour", "urw-base35",
    "yanone-kaffeesatz",
)  # fmt: skip
HELD_OUT = (
    "agave", "b612", "cabin", "clear-sans", "comic-neue", "dancingscript", "fantasque-sans", "hermit", "league-mono",
    "monofur", "mononoki", "paratype", "play", "spleen",
)  # fmt: skip
HANDWRITING = ("breip", "dancingscript", "dkg-handwriting", "femkeklaver", "kristi", "rufscript")
LEFT_OUT = re.compile(
    r"ital|obliq|light|thin|hair|extra|black|condensed|[-_](it|i|bi|ri|lt)\b|math|symbol|dingbat|D050|medium|semi|book|"
    r"retina|demi|heavy|wide|small|variable|\[|Z003|largetype|-?ocrbe|narrow|expanded|wght",
    re.IGNORECASE,
)


def fetch(target: Path) -> None:
    """Regular and bold fonts of the packages, sorted into the folder."""
    with tempfile.TemporaryDirectory() as work:
        for part, packages in (("train", TRAIN), ("held_out", HELD_OUT)):
            for package in packages:
                kind = "handwriting" if package in HANDWRITING else "print"
                (folder := target / part / kind).mkdir(parents=True, exist_ok=True)
                subprocess.run(["apt-get", "download", "-q", f"fonts-{package}"], cwd=work, check=True)
                [archive] = Path(work).glob(f"fonts-{package}_*.deb")
                subprocess.run(["dpkg", "-x", archive, f"{work}/{package}"], check=True)
                for path in sorted(Path(work, package).rglob("*.[to]tf")):
                    known = {font.stem.lower() for font in folder.iterdir()}  # some come as .otf and .ttf
                    if path.stem.lower() not in known and not LEFT_OUT.search(path.name) and _draws_latin(path):
                        shutil.copy(path, folder)


def _draws_latin(path: Path) -> bool:
    try:
        font = ImageFont.truetype(str(path), 24)
        return bytes(font.getmask("g")) != bytes(font.getmask("\U0010fffd"))
    except OSError:
        return False


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
