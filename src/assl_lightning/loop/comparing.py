"""The predictions of two trainings on images that both saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assl_lightning.learning.latest_predictions import NEVER
from assl_lightning.stopping.agreement import count


def compare_predictions(
    before: Tensor, now: Tensor, index: Tensor, present: Sequence[int | None] | None = None
) -> dict[str, float]:
    """Return the fields of the `Agreement` of two predictions, (N,) integers each, −1 where there is none.

    Args:
        before: may be of fewer samples, those of the pool before it grew.
        now: of the present pool.
        index: (M,) int64, the samples to compare: those without a label.
        present: the present class of each class that `before` has, None for one that is none any more. None: the
            classes are the same.

    Returns:
        An empty dictionary where no such sample has both predictions.
    """
    index = index[index < len(before)]
    first, second = before[index].long(), now[index].long()
    if present is not None:
        table = torch.tensor([*(NEVER if label is None else label for label in present), NEVER])
        first = table[first]  # −1 is the last
    both = (first != NEVER) & (second != NEVER)
    if not both.any():
        return {}
    return count(first[both].numpy(), second[both].numpy()).as_dict()
