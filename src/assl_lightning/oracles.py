"""Who answers when the loop asks for labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelRequest:
    """K samples to label, most wanted first.

    A request that is repeated, after the answers were pending, has neither score nor parts nor prediction; queried.csv
    in the round's directory has them.
    """

    round_number: int  # asked after the training of this round; −1 for the initial labels
    index: Tensor  # (K,) int64 pool indices
    sample_id: tuple[str, ...]  # K names
    score: Tensor | None = None  # (≤ K,) larger = more wanted; samples drawn at random come last and have none
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # what the score was made of, (K,) each
    prediction: Tensor | None = None  # (≤ K,) int64, what the model takes them for; None without an inference pass
    directory: Path | None = None  # where an oracle may leave files for this round


@dataclass(frozen=True)
class Answers:
    """Labels for all or some of the samples that were asked for."""

    index: Tensor  # (A,) int64, among those asked for
    label: Tensor  # (A,) int64 in [0, C)
    excluded: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # never ask for these again
    reason: str = ""  # why some were excluded or not answered


@dataclass(frozen=True)
class Pending:
    """The labels are not there yet; the message tells people what to do next."""

    message: str


@runtime_checkable
class Oracle(Protocol):
    """Answers label requests."""

    def answer(self, request: LabelRequest) -> Answers | Pending:
        """Label what was asked for, or say what has to happen first."""
        ...


class HeldBackLabels:
    """Labels that a data set had all along: it answers at once. The only holder of labels that are not yet known.

    Args:
        labels: (N,) int64, by pool index.
    """

    def __init__(self, labels: Tensor) -> None:
        self._labels = labels

    def answer(self, request: LabelRequest) -> Answers:
        """The true labels of all that was asked for."""
        return Answers(request.index, self._labels[request.index])
