"""A head for long tails beside the one that judges: the auxiliary balanced classifier, ABC (Lee et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assl_lightning.learning.pseudo_label_loss import PseudoLabels

CONFIDENT = 0.95
"""Confidence from which a prediction of the balanced head is a pseudo-label for it."""


class BalancedLoss(nn.Module):
    """The loss of a balanced head, in which an image counts the less the more labelled images its class has.

    s_c = (min n + 1) / (n_c + 1), with n_c the labelled images of class c, is what an image of class c counts. Of an
    unlabelled image whose weak view is predicted as ŷ with a confidence of at least 0.95, it is 1 − (1 − s_ŷ) · k / K
    at step k of K: at first all classes are learned alike, so that the features are good, and then evenly.

    The paper draws with this probability whether an image counts; here it counts that much, which has the same mean
    and no noise. And the paper has n for n + 1, so that one class without a label would leave no loss at all.

    Args:
        num_classes: C.
    """

    shares: Tensor  # (C,) float32 in (0, 1]: s
    progress: Tensor  # () float32 in [0, 1]: k / K; a number would stay the same in a step that a graph replays

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("shares", torch.ones(num_classes), persistent=False)
        self.register_buffer("progress", torch.zeros(()), persistent=False)
        self.is_counted = False

    @torch.no_grad()
    def count(self, labels: Tensor) -> None:
        """Take over how many labelled images each class has, by the labels (L,) of all of them, each in [0, C)."""
        counts = torch.bincount(labels.long().cpu(), minlength=len(self.shares)) + 1
        self.shares.copy_(counts.min() / counts)
        self.is_counted = True

    def weigh(self, weak: Tensor, progress: Tensor | float) -> PseudoLabels:
        """Return the pseudo-labels by the balanced head's logits of weak views (Bu, C), at `progress` k / K in [0, 1].

        No gradient flows through them.
        """
        confidence, label = weak.detach().float().softmax(-1).max(-1)
        share = 1 - progress * (1 - self.shares[label])
        return PseudoLabels(label, share * (confidence >= CONFIDENT))

    def forward(self, labelled: Tensor, label: Tensor, strong: Tensor, pseudo: PseudoLabels) -> Tensor:
        """Return the () loss in float32.

        Args:
            labelled: (B, C) logits of labelled images.
            label: (B,) int64.
            strong: (Bu, C) logits of strong views; Bu may be 0.
            pseudo: their pseudo-labels, by `weigh`.
        """
        loss = (self.shares[label] * F.cross_entropy(labelled.float(), label, reduction="none")).mean()
        if len(strong) == 0:
            return loss
        entropy = F.cross_entropy(strong.float(), pseudo.label, reduction="none")
        return loss + (pseudo.weight * entropy).mean()
