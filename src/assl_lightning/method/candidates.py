"""What an acquisition function is given, and what it must answer.

M candidates, C classes, d features, L labelled samples. Larger scores mean label sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from assl_lightning.method.statistics import CandidateStatistics

Requirement = Literal["statistics", "logits", "features", "labelled", "head"]


@dataclass(frozen=True)
class LabelledSamples:
    """What is known of the samples that already have a label."""

    index: Tensor  # (L,) int64
    labels: Tensor  # (L,) int64
    logits: Tensor  # (L, C)
    features: Tensor  # (L, d)


@dataclass(frozen=True)
class Candidates:
    """What an acquisition function may look at: the unlabelled samples that it may pick from, without their labels.

    Fields other than `index` are filled when the strategy's `requires` names them.
    """

    index: Tensor  # (M,) int64 pool indices, distinct, in any order
    statistics: CandidateStatistics | None = None  # M rows
    logits: Tensor | None = None  # (M, C) of one evaluation-mode pass over un-augmented images
    features: Tensor | None = None  # (M, d) of the same pass, or of the last weak view in training (`query`)
    labelled: LabelledSamples | None = None
    head: Callable[[Tensor], Tensor] | None = None  # (…, d) → (…, C)

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def require(self, name: Requirement) -> None:
        """Raise if the field `name` was not filled."""
        if getattr(self, name) is None:
            raise ValueError(
                f"this acquisition needs candidates.{name}, which is None; name it in `requires`, "
                f"or fill the field when you build Candidates yourself"
            )


@runtime_checkable
class Acquisition(Protocol):
    """A strategy: a function of the candidates, in any order, and of the generator. Ties go to the lower index."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """The fields of `Candidates` that it reads, beside `index`."""
        ...

    def scores(self, candidates: Candidates) -> Tensor | None:
        """(M,) one number per candidate, larger = label sooner; None where the strategy has no such number."""
        ...

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Tensor:
        """(budget,) int64 distinct pool indices on the CPU, best first. `budget` > M is an error."""
        ...
