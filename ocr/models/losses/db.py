"""The DB loss: balanced cross-entropy, L1 on the threshold map, dice on the approximate binary map.

L = bce_weight * L_bce + l1_weight * L_l1 + dice_weight * L_dice, after Liao et al. 2020, section 3.6, with the
weights of the published code (5, 10, 1). Maps are in float32 whatever the autocast type.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ocr.models.detector import Maps

EPS = 1e-6


def balanced_bce(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, negative_ratio: float, min_negatives: float
) -> torch.Tensor:
    """Cross-entropy over all positives and the hardest negatives of each row.

    Args:
        logits: float (R, N); target: 0/1 (R, N); mask: 0 or the weight of a pixel, (R, N).
        negative_ratio: hard negatives per positive.
        min_negatives: share of the unmasked pixels that count as negatives at least, so that rows with no text
            teach something.

    Returns:
        Sum of the weighted losses of the chosen pixels over their number, (R,); 0 where all is masked.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * mask
    positive = (target > 0.5) & (mask > 0.5)
    negative = (target <= 0.5) & (mask > 0.5)
    counts = torch.stack([positive.sum(1), negative.sum(1)], 1).tolist()  # the one time that the host waits for a GPU
    n_hard = [min(int(max(p * negative_ratio, (p + n) * min_negatives)), n) for p, n in counts]
    n_chosen = loss.new_tensor([max(p + hard, 1) for (p, _), hard in zip(counts, n_hard)])
    of_negatives = torch.where(negative, loss, -1)  # below every loss
    hardest = [row.topk(hard, sorted=False).values.sum() for row, hard in zip(of_negatives, n_hard)]
    return ((loss * positive).sum(1) + torch.stack(hardest)) / n_chosen


def masked_l1(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over the mask of each row, (R,); 0 where the mask is empty. All (R, N)."""
    return ((prediction - target).abs() * mask).sum(1) / mask.sum(1).clamp(min=1)


def dice(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - 2 |P n T| / (|P| + |T|) over the mask of each row, (R,); 0 where there is no text to find. All (R, N)."""
    overlap, text = (prediction * target * mask).sum(1), (target * mask).sum(1)
    total = (prediction * mask).sum(1) + text
    return torch.where(text > 0, 1 - 2 * overlap / (total + EPS), 0.0)


@dataclass(frozen=True)
class DBLoss:
    """The three terms and their weighted sum.

    Attributes:
        bce_weight, l1_weight, dice_weight: weights of the terms.
        negative_ratio, min_negatives: see :func:`balanced_bce`.
        k: steepness of the approximate step sigmoid(k (P - T)).
        thresh_min, thresh_max: range of the threshold map.
        per_image: terms are computed for each image and averaged, so that a street sign with two words counts as much
            as a receipt with fifty lines; as published, all pixels of a batch are pooled.
    """

    bce_weight: float
    l1_weight: float
    dice_weight: float
    negative_ratio: float
    min_negatives: float
    k: float
    thresh_min: float
    thresh_max: float
    per_image: bool

    def __call__(self, maps: Maps, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scalars ``loss``, ``loss_bce``, ``loss_l1`` and ``loss_dice``.

        Args:
            maps: logits (B, 1, H, W) of both branches.
            targets: uint8 (B, 4, H, W), see :class:`ocr.data.targets.maps.TargetMaker`.
        """
        assert maps.threshold is not None, "the loss needs the threshold branch: put the model in training mode"
        rows = len(targets) if self.per_image else 1
        shrink, shrink_mask, border, border_mask = targets.float().transpose(0, 1).reshape(4, rows, -1)
        with torch.autocast(device_type=targets.device.type, enabled=False):
            logits = maps.probability.float().reshape(rows, -1)
            threshold = maps.threshold.float().reshape(rows, -1).sigmoid()
            binary = torch.sigmoid(self.k * (logits.sigmoid() - threshold))
            border = self.thresh_min + border / 255 * (self.thresh_max - self.thresh_min)
            bce = balanced_bce(logits, shrink, shrink_mask, self.negative_ratio, self.min_negatives).mean()
            l1 = masked_l1(threshold, border, border_mask).mean()
            overlap = dice(binary, shrink, shrink_mask.clamp(max=1)).mean()
            loss = self.bce_weight * bce + self.l1_weight * l1 + self.dice_weight * overlap
        return {"loss": loss, "loss_bce": bce, "loss_l1": l1, "loss_dice": overlap}
