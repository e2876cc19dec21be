"""Uncertainty sampling: label the samples whose predictions are least certain at the end of the round.

A strategy of this kind is a subclass of `UncertaintySampling` that writes `uncertainty`, and a YAML file in
`conf/acquisition`, where the contract tests find it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor

from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.base.copies import first_copies
from assl_lightning.base.ties import comparable, to_float64
from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.scores import entropy, least_confidence, margin, pseudo_el2n


class UncertaintySampling(HighestScore):
    """Select the largest scores of the logits: one evaluation-mode pass over un-augmented images."""

    requires: ClassVar[frozenset[Requirement]] = frozenset({"logits"})

    @abstractmethod
    def uncertainty(self, logits: Tensor) -> Tensor:
        """Return the uncertainty of each prediction, (M, C) float64 → (M,); larger means label sooner."""

    @final
    def scores(self, candidates: Candidates) -> Tensor:
        """Return the uncertainty of each candidate, (M,), in their order; equal logits score the same."""
        logits = to_float64(candidates.require("logits"))
        return comparable(self.uncertainty(logits))[first_copies(logits)]


@final
@dataclass(frozen=True)
class Entropy(UncertaintySampling):
    """Select the largest entropy of the prediction (Settles 2009, §3.1)."""

    def uncertainty(self, logits: Tensor) -> Tensor:
        """Return the entropy, (M, C) → (M,) in [0, log C]."""
        return entropy(logits)


@final
@dataclass(frozen=True)
class Margin(UncertaintySampling):
    """Select the smallest margin between the two most probable classes (Settles 2009, §3.1)."""

    def uncertainty(self, logits: Tensor) -> Tensor:
        """Return the margin with its sign turned, (M, C) → (M,) in [−1, 0]."""
        return margin(logits)


@final
@dataclass(frozen=True)
class LeastConfidence(UncertaintySampling):
    """Select the smallest probability of the most probable class (Settles 2009, §3.1; Lewis and Gale 1994)."""

    def uncertainty(self, logits: Tensor) -> Tensor:
        """Return 1 − p_max, (M, C) → (M,) in [0, 1 − 1/C]."""
        return least_confidence(logits)


@final
@dataclass(frozen=True)
class PseudoEL2N(UncertaintySampling):
    """Select the largest distance from the own pseudo-label (Lim et al. 2023, Eq. 1; "vanilla" in Fig. 1 and 8)."""

    def uncertainty(self, logits: Tensor) -> Tensor:
        """Return pseudo-EL2N, (M, C) → (M,) in [0, √(1 − 1/C)]."""
        return pseudo_el2n(logits)
