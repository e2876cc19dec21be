"""Flip inconsistency: label the samples whose mirror images are predicted most differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, to_float64
from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.scores import symmetric_kl


@final
@dataclass(frozen=True)
class Flip(HighestScore):
    """Select the largest symmetric KL divergence between the predictions of an image and of its mirror image.

    The inconsistency of Elezi et al. 2022 ("Not All Labels Are Equal"), as Lim et al. 2023, §3.5, describe it. Elezi et
    al. detect objects and combine it with the entropy; here it is alone. Two passes over the pool at the query: in
    training the weak view is mirrored by chance and shifted too, so that no step has an image beside its own mirror
    image, and a pair from two steps would also differ by what was learned between them.

    Do not use it for images whose mirror image shows another class, or none, such as digits: there the predictions of
    both should differ.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({"logits", "flipped_logits"})

    def scores(self, candidates: Candidates) -> Tensor:
        """Return the divergence in nats, (M,) ≥ 0; equal pairs of predictions score the same."""
        plain, flipped = (to_float64(candidates.require(name)) for name in ("logits", "flipped_logits"))
        return comparable(symmetric_kl(plain, flipped))[first_copies(torch.cat([plain, flipped], dim=1))]
