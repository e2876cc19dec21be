"""Pseudo-labels, and the loss of a step with them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.learning.algorithm import mean_cross_entropy


class PseudoLabels(NamedTuple):
    """The classes that the unlabelled images of a step are taken for, and how much each counts."""

    label: Tensor  # (Bu,) int64, or the probabilities of the classes (Bu, C) float32
    weight: Tensor  # (Bu,) float32 in [0, 1]


class StepLoss(NamedTuple):
    """The parts of the loss, each a () tensor; `mask_rate` in [0, 1] is the mean weight of the pseudo-labels."""

    total: Tensor
    supervised: Tensor
    unsupervised: Tensor
    mask_rate: Tensor


def pseudo_label_loss(
    logits_labelled: Tensor, label: Tensor, logits_strong: Tensor, pseudo: PseudoLabels, *, lambda_u: float = 1.0
) -> StepLoss:
    """Cross-entropy of the labelled, plus λ_u times that of the strong views with their pseudo-labels, weighted.

    Args:
        logits_labelled: (B, C).
        label: (B,) int64.
        logits_strong: (Bu, C).
        pseudo: Bu rows.

    The unsupervised part is a mean over all Bu rows, not over those that count. In float32 whatever the inputs. With
    Bu = 0 the step is the supervised one.
    """
    supervised = mean_cross_entropy(logits_labelled, label)
    if len(logits_strong) == 0:
        return StepLoss(supervised, supervised, torch.zeros_like(supervised), torch.zeros_like(supervised))
    entropy = F.cross_entropy(logits_strong.float(), pseudo.label, reduction="none")
    unsupervised = (pseudo.weight * entropy).mean()
    return StepLoss(supervised + lambda_u * unsupervised, supervised, unsupervised, pseudo.weight.mean())
