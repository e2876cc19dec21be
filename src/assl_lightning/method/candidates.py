"""The contract of a strategy: its input, the candidates, and its result, the selection.

M candidates, C classes, d features, L labelled samples. Larger scores mean label sooner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload, runtime_checkable

import torch
from torch import Tensor

from assl_lightning.method.candidate_statistics import CandidateStatistics

Requirement = Literal[
    "statistics",
    "logits",
    "features",
    "labelled",
    "head",
    "answered",
    "forgetting",
    "view_variance",
    "mean_probabilities",
    "flipped_logits",
]


@dataclass(frozen=True)
class LabelledSamples:
    """Samples that already have a label, with the same numbers as the candidates."""

    index: Tensor  # (L,) int64
    labels: Tensor  # (L,) int64
    logits: Tensor | None  # (L, C); None with features of training, for strategies that do not require "logits"
    features: Tensor  # (L, d)

    def require(self, name: Literal["logits", "features"]) -> Tensor:
        """Return the field `name`; raise if it was not filled."""
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(
                f"this acquisition needs labelled.{name}, which is None; name {name} in `requires` beside labelled, or "
                f"fill the field when you build LabelledSamples yourself"
            )
        return value


@dataclass(frozen=True)
class AnsweredSamples:
    """Samples of the run's earlier queries that got a label, with their statistics when they were picked."""

    statistics: CandidateStatistics  # P rows
    wrong: Tensor  # (P,) bool, True if the predicted class was not the label
    rounds_ago: Tensor  # (P,) int64 ≥ 1, since the sample was picked


@dataclass(frozen=True)
class Candidates:
    """Unlabelled samples that a strategy may pick from, without their labels.

    Fields other than `index` are filled when the strategy's `requires` names them.
    """

    index: Tensor  # (M,) int64 pool indices, distinct, in any order
    statistics: CandidateStatistics | None = None  # M rows
    logits: Tensor | None = None  # (M, C) of one evaluation-mode pass over un-augmented images
    features: Tensor | None = None  # (M, d) of the same pass, or of the latest weak views in training (`query`)
    labelled: LabelledSamples | None = None
    head: Callable[[Tensor], Tensor] | None = None  # (…, d) → (…, C)
    answered: AnsweredSamples | None = None
    # further statistics, which the callback keeps during training if a strategy requires them
    forgetting: Tensor | None = None  # (M,) int32, changes of the predicted class
    view_variance: Tensor | None = None  # (M,)
    mean_probabilities: Tensor | None = None  # (M, C) with the sum 1
    flipped_logits: Tensor | None = None  # (M, C) of a further pass, over the mirror images

    def __len__(self) -> int:
        return int(self.index.shape[0])

    @overload
    def require(
        self,
        name: Literal["logits", "features", "forgetting", "view_variance", "mean_probabilities", "flipped_logits"],
    ) -> Tensor: ...
    @overload
    def require(self, name: Literal["statistics"]) -> CandidateStatistics: ...
    @overload
    def require(self, name: Literal["labelled"]) -> LabelledSamples: ...
    @overload
    def require(self, name: Literal["head"]) -> Callable[[Tensor], Tensor]: ...
    @overload
    def require(self, name: Literal["answered"]) -> AnsweredSamples: ...
    def require(self, name: Requirement) -> Any:
        """Return the field `name`; raise if it was not filled.

        >>> Candidates(torch.tensor([4, 7]), logits=torch.tensor([[1.0, 0.0], [0.0, 3.0]])).require("logits").argmax(1)
        tensor([0, 1])
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(
                f"this acquisition needs candidates.{name}, which is None; name it in `requires`, "
                f"or fill the field when you build Candidates yourself"
            )
        return value


@dataclass(frozen=True)
class Selection:
    """The result of a strategy: the samples to label, and the scores by which it ranked the candidates.

    A strategy that draws its picks may give the probability with which it drew each from the candidates that were left.
    If it could have drawn any of them each time, an accuracy over all candidates follows (`stopping.picked_accuracy`).
    """

    index: Tensor  # (budget,) int64 distinct pool indices on the CPU, best first
    scores: Tensor | None = None  # (M,) one number for each candidate, in their order; None where there is none
    pick_probabilities: Tensor | None = None  # (budget,) float64 in (0, 1] on the CPU, as `index`; None: not known


@runtime_checkable
class Acquisition(Protocol):
    """A strategy: a function of the candidates, in any order, and of the generator. Ties go to the lower index."""

    @property
    def requires(self) -> frozenset[Requirement]:
        """Fields of `Candidates` that the strategy reads, beside `index`."""
        ...

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select `budget` of the candidates, 1 ≤ `budget` ≤ M; anything else is an error."""
        ...
