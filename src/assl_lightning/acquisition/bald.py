"""BALD: label samples for which networks thinned by dropout are each certain, but predict different classes.

Houlsby, Huszár, Ghahramani and Lengyel 2011, "Bayesian Active Learning for Classification and Preference Learning";
Gal, Islam and Ghahramani 2017, "Deep Bayesian Active Learning with Image Data", for dropout as the posterior; Kirsch,
van Amersfoort and Gal 2019, "BatchBALD", for masks that samples share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from assl_lightning.acquisition.highest_score import HighestScore
from assl_lightning.base.copies import first_copies
from assl_lightning.base.seeding import Draws, derive_key, make_generator
from assl_lightning.base.ties import comparable, float64_device, head_in_float64
from assl_lightning.method.candidates import Candidates, Requirement
from assl_lightning.method.top_k import in_index_order

# Numbers that the masks of a block of rows have, and the probabilities of all its draws: as many as stay in a CPU's
# cache, and as keep a GPU busy.
_BLOCK_CPU, _BLOCK_GPU = 2**16, 2**22


@final
@dataclass(frozen=True)
class BALD(HighestScore):
    """Select the largest mutual information of the label and a dropout mask on the features, H[mean p] − mean H[p].

    Dropout is on the features alone, so one evaluation-mode pass over the pool serves all draws. ALFA-Mix's BALD,
    which papers compare with, puts the whole network into training mode: there BatchNorm normalises by each batch
    and moves its running statistics, which the next evaluation uses; and its default dropout of 0 scores every sample
    0. It makes 5 draws too, of masks of its own for each sample.

    A sample's masks follow from the seed and its pool index, so that its score depends on no other candidate. Masks
    that all samples share (Kirsch et al. 2019) are right for each sample as well, and compare two samples with less
    noise; but the samples on which these few masks happen to disagree win together, and those are alike. Of ten digits
    picked for networks that were trained without dropout, masks of their own came to 5.5 of the ten classes on average
    and shared ones to 3.2 (10 networks with 50 labels, 5 seeds of masks each). Shared masks follow from the seed and
    the number of candidates, which each round changes.

    Args:
        num_draws: how many masks for a sample, T ≥ 2.
        dropout: probability in (0, 1) that a mask leaves a feature out; the others are scaled by 1 / (1 − dropout).
        seed: of the masks.
        shared_masks: the same T masks for all samples. Only then do equal samples score the same.
    """

    num_draws: int = 5
    dropout: float = 0.5
    seed: int = 0
    shared_masks: bool = False
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
        """Return the information in nats, (M,) float64 in [0, log C], in the candidates' order."""
        features, head = candidates.require("features").detach(), candidates.require("head")
        device = float64_device(features.device)
        # In a fixed order: a row's last bits may depend on its position in a product of matrices.
        position = torch.arange(len(candidates), device=device)
        index, position, features = in_index_order(candidates.index.to(device), position, features.to(device))
        head = head_in_float64(head, device)
        shared = self._draw_shared_masks(features) if self.shared_masks else None
        count = self._rows_of_a_block(features, head)
        information = []
        for rows, members in zip(features.split(count), index.split(count), strict=True):
            kept = self._draw_own_masks(members, rows.shape[1]) if shared is None else shared
            masked = (rows.double() / (1 - self.dropout))[:, None] * kept  # (b, T, d)
            logits = head(masked.flatten(0, 1)).view(len(rows), self.num_draws, -1)
            information.append(_mutual_information(logits.softmax(-1)))
        ordered = comparable(torch.cat(information))
        if self.shared_masks:
            ordered = ordered[first_copies(features)]
        return torch.empty_like(ordered).index_copy(0, position, ordered)

    def _draw_own_masks(self, index: Tensor, feature_dim: int) -> Tensor:
        """Draw masks (b, T, d) bool of the features that stay; those of a sample follow from its pool index (b,) alone.

        The probability is a multiple of 2⁻¹⁶, since one draw serves four features.
        """
        count = self.num_draws * feature_dim
        words = Draws(derive_key(self.seed, "bald"), index).bits(range(-(-count // 4)))
        quarters = words.view(torch.int16)[:, :count]  # uniform on −2¹⁵ … 2¹⁵ − 1
        least = min(max(round(self.dropout * 2**16), 1), 2**16 - 1) - 2**15
        return (quarters >= least).view(len(index), self.num_draws, feature_dim)

    def _draw_shared_masks(self, features: Tensor) -> Tensor:
        """Draw masks (1, T, d) bool of the features (M, d) that stay, on the CPU."""
        generator = make_generator(self.seed, "bald", len(features))
        kept = torch.rand(self.num_draws, features.shape[1], generator=generator) >= self.dropout
        return kept.to(features.device)[None]

    def _rows_of_a_block(self, features: Tensor, head: Callable[[Tensor], Tensor]) -> int:
        classes = head(features[:1].double()).shape[-1]
        size = _BLOCK_CPU if features.device.type == "cpu" else _BLOCK_GPU
        return max(1, size // (self.num_draws * max(features.shape[1], classes)))


def _mutual_information(probabilities: Tensor) -> Tensor:
    """Return H[mean p] − mean H[p] = mean KL(p ‖ mean p) of T predictions: (b, T, C) float64 → (b,) ≥ 0.

    Each class adds mean m·φ(p/m), φ(x) = x log x − x + 1 ≥ 0, of numbers as small as its own: the difference of two
    entropies would leave nothing of 10⁻¹⁶ where all draws are nearly one-hot, and 0 would not be 0 where all agree.
    """
    first = probabilities[:, :1]
    mean = first + (probabilities - first).mean(1, keepdim=True)  # (b, 1, C), the draws' own where all of them agree
    excess = torch.where(mean > 0, (probabilities - mean) / mean, 0.0)  # p / m − 1
    terms = torch.special.xlog1py(1 + excess, excess) - excess  # φ
    information: Tensor = (mean * terms.clamp_min(0)).sum(-1).mean(1)
    return information
