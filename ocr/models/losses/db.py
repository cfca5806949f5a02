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
    """Cross-entropy over all positives and the hardest negatives.

    Args:
        logits: float (B, H, W); target: 0/1 (B, H, W); mask: 0 or the weight of a pixel, (B, H, W).
        negative_ratio: hard negatives per positive.
        min_negatives: share of the unmasked pixels that count as negatives at least, so that batches with no text
            teach something.

    Returns:
        Sum of the weighted losses of the chosen pixels over their number; 0 when all is masked.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * mask
    positive = (target > 0.5) & (mask > 0.5)
    negative = (target <= 0.5) & (mask > 0.5)
    n_positive, n_negative = int(positive.sum()), int(negative.sum())
    n_hard = max(n_positive * negative_ratio, (n_positive + n_negative) * min_negatives)
    n_hard = min(int(n_hard), n_negative)
    hardest = torch.topk(loss[negative], n_hard, sorted=False).values
    return ((loss * positive).sum() + hardest.sum()) / max(n_positive + n_hard, 1)


def masked_l1(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over the mask; 0 when the mask is empty. All (B, H, W)."""
    return ((prediction - target).abs() * mask).sum() / mask.sum().clamp(min=1)


def dice(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - 2 |P n T| / (|P| + |T|) over the mask; 0 when there is no text to find. All (B, H, W)."""
    overlap = (prediction * target * mask).sum()
    total = (prediction * mask).sum() + (target * mask).sum()
    return torch.where((target * mask).sum() > 0, 1 - 2 * overlap / (total + EPS), 0.0)


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
        shrink, shrink_mask, border, border_mask = targets.float().unbind(1)
        with torch.autocast(device_type=targets.device.type, enabled=False):
            logits = maps.probability.float().squeeze(1)
            threshold = maps.threshold.float().squeeze(1).sigmoid()
            binary = torch.sigmoid(self.k * (logits.sigmoid() - threshold))
            border = self.thresh_min + border / 255 * (self.thresh_max - self.thresh_min)
            bce, l1, overlap = self._terms(logits, threshold, binary, shrink, shrink_mask, border, border_mask)
            loss = self.bce_weight * bce + self.l1_weight * l1 + self.dice_weight * overlap
        return {"loss": loss, "loss_bce": bce, "loss_l1": l1, "loss_dice": overlap}

    def _terms(self, *maps: torch.Tensor) -> torch.Tensor:
        """The unweighted terms, float32 (3,)."""
        if self.per_image and len(maps[0]) > 1:
            return torch.stack([self._terms(*image) for image in zip(*(m.split(1) for m in maps))]).mean(0)
        logits, threshold, binary, shrink, shrink_mask, border, border_mask = maps
        bce = balanced_bce(logits, shrink, shrink_mask, self.negative_ratio, self.min_negatives)
        l1 = masked_l1(threshold, border, border_mask)
        return torch.stack([bce, l1, dice(binary, shrink, shrink_mask.clamp(max=1))])
