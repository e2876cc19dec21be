"""BALD: label where sub-networks are each sure, and of different things.

Houlsby, Huszár, Ghahramani and Lengyel 2011, "Bayesian Active Learning for Classification and Preference Learning";
Gal, Islam and Ghahramani 2017, "Deep Bayesian Active Learning with Image Data", for dropout as the posterior; Kirsch,
van Amersfoort and Gal 2019, "BatchBALD", for masks that samples share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.acquisition.base import Candidates, Requirement
from assl_lightning.acquisition.selection import float64_device, in_index_order, top_k
from assl_lightning.seeding import make_generator

_BLOCK = 8192  # rows at a time: its logits and masked features are all that is held beside the scores


@final
@dataclass(frozen=True)
class BALD:
    """The largest mutual information between the label and a dropout mask on the features, H[mean p] − mean H[p].

    Dropout is on the features alone, so one evaluation-mode pass over the pool serves all draws. ALFA-Mix's BALD, the
    one that papers compare with, puts the whole network into training mode: there BatchNorm normalises by each batch
    and moves its running statistics, which the next evaluation uses; and its default dropout of 0 scores every sample
    0. It makes 5 draws too.

    A draw is one mask for all samples. For each sample the masks are distributed as if they were its own, and so is its
    score; between samples the luck of the draw cancels (Kirsch et al. 2019). The masks follow from the seed and from
    the number of candidates, which each round changes, so `scores` are the numbers by which `acquire` picks.

    Args:
        num_draws: how many masks, T ≥ 2.
        dropout: probability in (0, 1) that a mask leaves a feature out; the others are scaled by 1 / (1 − dropout).
        seed: of the masks.
    """

    num_draws: int = 5
    dropout: float = 0.5
    seed: int = 0
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "head"})

    def __post_init__(self) -> None:
        if not isinstance(self.num_draws, int) or self.num_draws < 2:
            raise ValueError(
                f"num_draws must be an integer of at least 2, since one draw alone disagrees with nothing; "
                f"got {self.num_draws!r}"
            )
        if not 0 < self.dropout < 1:
            raise ValueError(
                f"dropout must be above 0 and below 1, since without it all draws agree and every score is 0; "
                f"got {self.dropout}"
            )

    @torch.no_grad()
    def scores(self, candidates: Candidates) -> Tensor:
        """(M,) float64 in [0, log C] nats, in the candidates' order; larger means label sooner."""
        candidates.require("features")
        candidates.require("head")
        assert candidates.features is not None
        assert candidates.head is not None
        # Blocks of a fixed order: a row's last bits may depend on its place in a product of matrices.
        position = torch.arange(len(candidates))
        _, position, features = in_index_order(candidates.index.cpu(), position, candidates.features)
        masks = self._masks(features)
        ordered = torch.cat([_mutual_information(candidates.head, rows, masks) for rows in features.split(_BLOCK)])
        return torch.empty_like(ordered).index_copy(0, position.to(ordered.device), ordered)

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
        """(budget,) int64 pool indices on the CPU, best first; nothing is drawn from the generator.

        The samples are ranked one by one: that two picks may tell the same is not looked at.
        """
        return top_k(self.scores(candidates), candidates.index, budget)

    def _masks(self, features: Tensor) -> Tensor:
        """(T, d) factors for the features (M, d): 0 or 1 / (1 − dropout), drawn on the CPU."""
        generator = make_generator(self.seed, "bald", len(features))
        kept = torch.rand(self.num_draws, features.shape[1], generator=generator) >= self.dropout
        return kept.to(features) / (1 - self.dropout)


def _mutual_information(head: Callable[[Tensor], Tensor], features: Tensor, masks: Tensor) -> Tensor:
    """(b,) float64 H[mean p] − mean H[p] over the `masks` (T, d) of `features` (b, d)."""
    first = _probabilities(head(features * masks[0]))
    first_entropy = _entropy(first)
    # Sums of differences from the first draw: where all draws agree the score is 0, not what rounding left.
    shift, entropy_shift = torch.zeros_like(first), torch.zeros_like(first_entropy)
    for mask in masks[1:]:
        probabilities = _probabilities(head(features * mask))
        shift += probabilities - first
        entropy_shift += _entropy(probabilities) - first_entropy
    of_mean = _entropy(first + shift / len(masks)) - first_entropy
    return (of_mean - entropy_shift / len(masks)).clamp_min(0)


def _probabilities(logits: Tensor) -> Tensor:
    """(b, C) float64; on the CPU where the device has no float64."""
    return F.softmax(logits.to(float64_device(logits.device), torch.float64), dim=-1)


def _entropy(probabilities: Tensor) -> Tensor:
    """(b, C) → (b,) nats."""
    terms: Tensor = torch.special.entr(probabilities)  # −p log p, 0 where p = 0
    return terms.sum(-1)
