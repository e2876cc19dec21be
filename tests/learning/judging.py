"""What the tests of pseudo-labels share: learners, the logits of steps, and sums in Python's float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.networks.small import SmallCNN
from tests.stripes import SGD

CLASSES = 4
Rows = list[list[float]]
Learner = TypeVar("Learner", bound=PseudoLabelling)


def make(kind: type[Learner], classes: int = CLASSES, **arguments: object) -> Learner:
    return kind(SmallCNN(classes, width=2), optimizer=SGD, **arguments)  # type: ignore[arg-type]


def on_rank(learner: Learner, trainer: Any, module: Any) -> Learner:
    """The learner as one of several ranks, see `Ranks`."""
    learner._trainer, learner.all_gather = trainer, module.all_gather  # type: ignore[method-assign]
    return learner


def steps(count: int, unlabelled: int = 12, labelled: int = 5, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of weak views and of labelled images, surer with every step, and of some classes more than of others."""
    generator = torch.Generator().manual_seed(seed)
    favour = torch.tensor([1.0, 0.5, 0.0, -0.5])
    for step in range(count):
        scale = 1 + 4 * step / count
        yield (
            scale * (torch.randn(unlabelled, CLASSES, generator=generator) + favour),
            scale * torch.randn(labelled, CLASSES, generator=generator),
        )


def probabilities(logits: Tensor) -> Rows:
    """The softmax of each row, in Python's float64."""
    found = []
    for row in logits.double().tolist():
        powers = [math.exp(value - max(row)) for value in row]
        found.append([value / sum(powers) for value in powers])
    return found


def column_means(rows: Rows) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def moved(average: list[float], value: list[float], momentum: float) -> list[float]:
    """A running average after a step."""
    return [momentum * old + (1 - momentum) * new for old, new in zip(average, value, strict=True)]


def argmax(row: list[float]) -> int:
    return row.index(max(row))


def logits_of(rows: Rows) -> Tensor:
    """Logits with these probabilities."""
    return torch.tensor(rows).log()
