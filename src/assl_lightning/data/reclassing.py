"""The labels of a data source among the classes that a run has now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from assl_lightning.data.sources.base import PoolSource


def with_classes(source: PoolSource, names: Sequence[str], resolve: Callable[[str], str]) -> PoolSource:
    """The source with the classes `names`; `resolve` says for each of its own what it counts as now.

    A label that counts as none of the `names` becomes −1, unknown.
    """
    place = {name: number for number, name in enumerate(names)}
    table = torch.tensor([place.get(resolve(name), -1) for name in source.class_names], dtype=torch.int64)
    return replace(
        source,
        hidden_labels=_look_up(table, source.hidden_labels),
        test_labels=_look_up(table, source.test_labels),
        class_names=tuple(names),
    )


def relabel(state: dict[str, Tensor], places: Sequence[int | None], known: Tensor) -> dict[str, Tensor]:
    """The state_dict of a `Pool` with its labels among other classes.

    Args:
        state: of the pool before; it is not changed.
        places: for each class before, its place among the present ones; None where that depends on the sample.
        known: (N,) int32 labels among the present classes that are known beforehand, −1 elsewhere; they are taken where
            there is no place. What neither tells has no label until an answer settles it.

    Raises:
        ValueError: a label is of no class before.
    """
    labels, since = state["labels"], state["labelled_in_round"]
    if len(labels) and int(labels.max()) >= len(places):
        raise ValueError(f"labels must be of the {len(places)} classes of its round; got {int(labels.max())}")
    table = torch.tensor([-1 if place is None else place for place in places], dtype=torch.int64)
    found = _look_up(table, labels.long()).to(torch.int32)
    lost = (found < 0) & (labels >= 0)
    found = torch.where(lost, known[: len(labels)], found)
    is_open = lost & (found < 0) & (since >= 0)
    return {**state, "labels": found, "labelled_in_round": torch.where(is_open, -1, since).to(torch.int32)}


def _look_up(table: Tensor, labels: Tensor) -> Tensor:
    return torch.where(labels < 0, labels, table[labels.clamp(min=0)])
