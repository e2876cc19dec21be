"""Labels of a data source, or of a pool, as labels of the run's present classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from assl_lightning.data.sources.base import PoolSource


def with_classes(source: PoolSource, names: Sequence[str], resolve: Callable[[str], str]) -> PoolSource:
    """Give the source the classes `names`; `resolve` returns the present class of each of its own.

    A label whose class is none of the `names` becomes −1, unknown.
    """
    label_of = {name: label for label, name in enumerate(names)}
    table = torch.tensor([label_of.get(resolve(name), -1) for name in source.class_names], dtype=torch.int64)
    return replace(
        source,
        hidden_labels=_look_up(table, source.hidden_labels),
        test_labels=_look_up(table, source.test_labels),
        class_names=tuple(names),
    )


def relabel(state: dict[str, Tensor], present: Sequence[int | None], known: Tensor) -> dict[str, Tensor]:
    """Return the state_dict of a `Pool` with labels of the present classes.

    Args:
        state: the pool's state with the former classes; it is not changed.
        present: the present label of each former label; None where it depends on the sample.
        known: (N,) int32 labels of the present classes that are known beforehand, −1 elsewhere. They replace labels
            without a present one; a sample that has neither is unlabelled until an answer comes.

    Raises:
        ValueError: a label is of none of the former classes.
    """
    labels, since = state["labels"], state["labelled_in_round"]
    if len(labels) and int(labels.max()) >= len(present):
        raise ValueError(f"labels must be of the {len(present)} classes of its round; got {int(labels.max())}")
    table = torch.tensor([-1 if label is None else label for label in present], dtype=torch.int64)
    found = _look_up(table, labels.long()).to(torch.int32)
    lost = (found < 0) & (labels >= 0)
    found = torch.where(lost, known[: len(labels)], found)
    is_open = lost & (found < 0) & (since >= 0)
    return {**state, "labels": found, "labelled_in_round": torch.where(is_open, -1, since).to(torch.int32)}


def _look_up(table: Tensor, labels: Tensor) -> Tensor:
    return torch.where(labels < 0, labels, table[labels.clamp(min=0)])
