"""Oracles: the sources that the loop asks for labels, and the labels of a data set as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from assl_lightning.base.arguments import is_number, require_integers, require_one_of
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.pool import Answers
from assl_lightning.data.sources.base import PoolSource

NoiseKind = Literal["symmetric", "pair"]


def _none() -> Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class LabelRequest:
    """K samples to label, in the order of the picks.

    A request that is repeated, because the answers were pending, has no score, parts or prediction; they are in
    queried.csv in the round's directory.
    """

    round_number: int  # the request follows the training of this round; −1 for the initial labels
    index: Tensor  # (K,) int64, distinct pool indices; empty where no label is needed before the first training
    sample_id: tuple[str, ...]  # K names
    score: Tensor | None = None  # (≤ K,) larger means label sooner; samples drawn at random come last and have none
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # the statistics behind the score, (K,) each
    prediction: Tensor | None = None  # (K,) int64, the classes that the model predicts; None before it has learned
    labelled: Tensor = field(default_factory=_none)  # (L,) int64, samples with a label, which may be asked for again
    directory: Path | None = None  # of the round that trains on the labels, for an oracle's files; it may not exist yet


@dataclass(frozen=True)
class Pending:
    """The answer while labels are missing, with a message for the user."""

    message: str


@runtime_checkable
class Oracle(Protocol):
    """A source of labels, such as people or a data set's own labels."""

    def answer(self, request: LabelRequest) -> Answers | Pending:
        """Return the labels of the request, or `Pending` while they are missing."""
        ...


class HeldBackLabels:
    """An oracle with the labels of a data set, which answers at once. No other part of a run can read these labels.

    With `noise` or a `transition`, some answers are wrong. An answer is a function of the seed, the sample's pool index
    and its class: it does not depend on the time or the strategy of the request, and a wrong answer stays wrong with
    more noise.

    Args:
        labels: (N,) int64, by pool index; all must be known.
        num_classes: C; may be None without `noise`.
        noise: share of wrong answers, in [0, 1].
        noise_kind: the kind of wrong answers. "symmetric": any other class, all equally likely; "pair": class c + 1 for
            class c, and 0 for the last class (Han et al. 2018, Fig. 6).
        transition: C rows of C probabilities, row = true class, column = answer; in place of `noise`.
        seed: of the wrong answers.

    Raises:
        ValueError: a label is unknown, or the arguments contradict each other.
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        num_classes: int | None = None,
        noise: float = 0.0,
        noise_kind: NoiseKind = "symmetric",
        transition: Sequence[Sequence[float]] | None = None,
        seed: int = 0,
    ) -> None:
        if not is_number(noise) or not 0 <= noise <= 1:
            raise ValueError(f"noise must be in [0, 1], the share of wrong answers; got {noise!r}")
        require_one_of("noise_kind", noise_kind, NoiseKind)
        if transition is not None and noise > 0:
            raise ValueError(f"transition already has the shares of wrong answers; set noise=0 beside it, not {noise}")
        require_integers(0, seed=seed)
        unknown = int((labels < 0).sum())
        if unknown:
            raise ValueError(
                f"labels must be known for the whole pool, but {unknown:,} of its {len(labels):,} samples have none; "
                f"label them, or ask people with oracle=page, file or label_studio"
            )
        self._labels = labels
        self._key = derive_key(seed, "label noise")
        self._transition: Tensor | None = None  # (C, C) float64
        if transition is not None:
            self._transition = _read_transition(transition, num_classes)
        elif noise > 0:
            self._transition = _make_transition(num_classes, noise, noise_kind)
        if self._transition is not None and len(labels) and int(labels.max()) >= len(self._transition):
            raise ValueError(
                f"num_classes must be above every label; got {len(self._transition)} classes and the label "
                f"{int(labels.max())}"
            )

    def answer(self, request: LabelRequest) -> Answers:
        """Answer the whole request with the true labels, changed by the noise."""
        labels = self._labels[request.index]
        if self._transition is not None:
            labels = _mislabel(labels, self._transition, Draws(self._key, request.index))
        return Answers(request.index, labels)


def held_back_labels(
    source: PoolSource,
    num_classes: int | None = None,
    noise: float = 0.0,
    noise_kind: NoiseKind = "symmetric",
    transition: Sequence[Sequence[float]] | None = None,
    seed: int = 0,
) -> HeldBackLabels:
    """Make the `HeldBackLabels` of a data set.

    Unreadable and absent images, which are never asked for, need no label.
    """
    never_asked = torch.cat([source.unreadable, source.absent])
    return HeldBackLabels(
        source.hidden_labels.index_put((never_asked,), source.hidden_labels[never_asked].clamp(min=0)),
        num_classes=num_classes,
        noise=noise,
        noise_kind=noise_kind,
        transition=transition,
        seed=seed,
    )


def _make_transition(num_classes: int | None, noise: float, noise_kind: NoiseKind) -> Tensor:
    """Return (C, C) float64 with 1 − `noise` in the diagonal, and `noise` spread by its kind."""
    if num_classes is None or num_classes < 2:
        raise ValueError(
            f"num_classes must be at least 2 for wrong answers to exist (noise={noise}); got {num_classes}"
        )
    right = torch.eye(num_classes, dtype=torch.float64)
    wrong = right.roll(1, 1) if noise_kind == "pair" else (1 - right) / (num_classes - 1)
    return (1 - noise) * right + noise * wrong


def _read_transition(rows: Sequence[Sequence[float]], num_classes: int | None) -> Tensor:
    """Return the transition as (C, C) float64; raise for rows that are no probabilities."""
    wanted = f"{num_classes or 'C'} rows of {num_classes or 'C'} numbers, one for each class"
    try:
        table = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"transition must be {wanted} ({error})") from error
    if table.ndim != 2 or table.shape != (num_classes or len(table),) * 2:
        raise ValueError(f"transition must be {wanted}; got the shape {tuple(table.shape)}")
    fits = (table >= 0).all(1) & ((table.sum(1) - 1).abs() <= 1e-6)  # a NaN does not fit either
    if not fits.all():
        row = int(fits.int().argmin())
        raise ValueError(
            f"transition must have probabilities of sum 1 in each row; row {row} is {table[row].tolist()}, of sum "
            f"{float(table[row].sum()):g}"
        )
    return table


def _mislabel(labels: Tensor, transition: Tensor, draws: Draws) -> Tensor:
    """Draw an answer (K,) int64 for each label from its row of `transition`, by inversion of the distribution.

    The order of the classes begins with the true class, c, c + 1, …, C − 1, 0, …, so that it has the smallest draws.
    """
    num_classes = len(transition)
    classes = (labels[:, None] + torch.arange(num_classes)) % num_classes  # (K, C)
    cumulative = transition[labels[:, None], classes].cumsum(1)
    threshold = draws.uniform(0).double()[:, None] * cumulative[:, -1:]  # below the last, which need not be exactly 1
    column = (cumulative <= threshold).sum(1, keepdim=True)  # the first one above the threshold
    return classes.gather(1, column)[:, 0]
