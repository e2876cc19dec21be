from __future__ import annotations

import torch
from torch import Tensor

from assl_lightning.loop.comparing import compare_predictions
from assl_lightning.stopping.agreement import count


def predictions(*classes: int) -> Tensor:
    return torch.tensor(classes, dtype=torch.int16)


def test_samples_without_a_label_that_both_trainings_saw_are_compared() -> None:
    before = predictions(0, 1, 2, -1, 1, 0)
    now = predictions(1, 1, 0, 2, -1, 0, 2)  # the pool has grown by one
    unlabelled = torch.tensor([1, 2, 3, 4, 5, 6])
    assert compare_predictions(before, now, unlabelled) == count([1, 2, 0], [1, 0, 0]).as_dict()


def test_merged_classes_count_as_one_and_those_that_are_none_any_more_not_at_all() -> None:
    before, now = predictions(0, 1, 2, 3), predictions(0, 0, 1, 1)
    found = compare_predictions(before, now, torch.arange(4), present=(0, 0, None, 1))
    assert found == count([0, 0, 1], [0, 0, 1]).as_dict()


def test_nothing_is_compared_where_no_sample_was_seen_twice() -> None:
    assert compare_predictions(predictions(0, -1), predictions(-1, 0), torch.arange(2)) == {}
