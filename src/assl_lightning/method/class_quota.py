"""Class quota: a gain for batches that bring each class closer to an equal share of the labels.

Σ_c min(δ_c, Σ_{s ∈ S} p_c(s)), where p_c(s) is the probability that the sample s is of class c, and δ_c the number of
labels that the class lacks, is monotone and submodular, so that its sum with a coverage can be maximised greedily too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassQuota:
    """The labels that each class lacks, and the probabilities of the candidates' classes."""

    probabilities: Tensor  # (M, C) float64, rows sum to 1
    wanted: Tensor  # (C,) float64 ≥ 0, δ
    picked: Tensor  # (M,) float64, 1 for each pick so far, 0 for the others; changed in place

    def gains_after(self, rows: Tensor | None, picks: Tensor) -> Tensor:
        """Return Σ_c min(p_c(s), labels that class c lacks) for candidates s, after adding `picks` to the batch.

        Args:
            rows: (m,) int64 positions of candidates; None: all.
            picks: (k,) int64 positions of candidates.

        Returns:
            (m,) float64 in [0, 1].
        """
        self.picked.index_fill_(0, picks.to(self.picked.device), 1.0)
        left = (self.wanted - self.picked @ self.probabilities).clamp_min(0)
        offered = self.probabilities if rows is None else self.probabilities[rows]
        return torch.minimum(offered, left).sum(1)


def equal_shares(logits: Tensor, labels: Tensor, budget: int) -> ClassQuota:
    """Make a quota with δ_c = max(0, (L + `budget`) / C − L_c), an equal share of labels for each class.

    A model predicts a class with few labels too rarely. Therefore the probabilities are divided by the square root of
    their mean over the candidates, which is half of the correction of Menon et al. 2021 ("Long-tail learning via logit
    adjustment"), and normalised again.

    Args:
        logits: (M, C) float64 of the candidates.
        labels: (L,) int64 in 0 … C − 1, the known labels.
        budget: number of labels of this batch.
    """
    probabilities = logits.softmax(1)
    prior = probabilities.mean(0, keepdim=True)
    probabilities = (logits - 0.5 * prior.clamp_min(torch.finfo(prior.dtype).tiny).log()).softmax(1)
    num_classes = logits.shape[1]
    known = torch.bincount(labels.to(logits.device), minlength=num_classes)
    wanted = ((len(labels) + budget) / num_classes - known.double()).clamp_min(0)
    return ClassQuota(probabilities, wanted, torch.zeros(len(logits), dtype=torch.float64, device=logits.device))
