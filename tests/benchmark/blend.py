"""Weights between stock and fine-tuned: ``python -m tests.benchmark.blend <fine-tuned.ckpt> ppocr_v6 0.9 <out.ckpt>``.

Every weight but those of the threshold branch, which stock weights lack, becomes ``a * fine-tuned + (1 - a) * stock``
(WiSE-FT, Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import yaml

from ocr.models.checkpoint_file import read_checkpoint
from ocr.models.pretrained.ppocr import pretrained_detector

CONFIGS = Path(__file__).parents[2] / "configs" / "model"


def blend(path: Path, stock: str, a: float, out: Path) -> None:
    """Write the blended checkpoint.

    Args:
        path: a checkpoint that was trained from ``model=<stock>``.
        stock: ``ppocr_v4`` or ``ppocr_v6``.
        a: share of the fine-tuned weights, 0 to 1.
        out: the file to write.
    """
    checkpoint = read_checkpoint(path)
    temperature = yaml.safe_load((CONFIGS / f"{stock}.yaml").read_text())["temperature"]
    start = pretrained_detector(stock, temperature).state_dict()
    state = checkpoint["state_dict"]
    for name, weight in state.items():
        if weight.is_floating_point() and "threshold_" not in name:
            state[name] = a * weight + (1 - a) * start[name.removeprefix("network.")]
    torch.save(checkpoint, out)


if __name__ == "__main__":
    blend(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]))
