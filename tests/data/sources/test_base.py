"""What a `PoolSource` refuses to hold."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from assl_lightning.data.sources.base import PoolSource


def make(**changes: Any) -> PoolSource:
    values: dict[str, Any] = {
        "pool_images": torch.zeros(4, 1, 8, 6, dtype=torch.uint8),
        "hidden_labels": torch.tensor([0, 1, 0, 1]),
        "test_images": torch.zeros(2, 1, 8, 6, dtype=torch.uint8),
        "test_labels": torch.tensor([0, 1]),
        "class_names": ("a", "b"),
        "sample_ids": ("0", "1", "2", "3"),
    }
    return PoolSource(**(values | changes))


def test_every_image_can_be_decoded_unless_it_is_said() -> None:
    assert make().unreadable.tolist() == []
    assert make(unreadable=torch.tensor([1, 3])).unreadable.tolist() == [1, 3]


def test_a_label_of_the_pool_may_be_one_that_nobody_knows() -> None:
    assert make(hidden_labels=torch.tensor([0, -1, -1, 1])).hidden_labels.tolist() == [0, -1, -1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_labels": torch.tensor([0, -2, 0, 1])}, "or be -1 where unknown; got -2 … 1"),
        ({"pool_images": torch.zeros(4, 1, 8, 6)}, "the pool images must be uint8"),
        ({"hidden_labels": torch.tensor([0, 1, 0, 2])}, "the pool labels must lie in [0, 2)"),
        ({"test_labels": torch.tensor([0, -1])}, "the test labels must lie in [0, 2)"),
        ({"test_labels": torch.tensor([0])}, "the test labels must be int64 of shape (2,)"),
        ({"sample_ids": ("0", "1", "2", "2")}, "sample_ids must be distinct"),
        (
            {"test_images": torch.zeros(2, 1, 6, 8, dtype=torch.uint8)},
            "must be of one size, (channels, height, width); got (1, 8, 6) in the pool and (1, 6, 8) in the test",
        ),
        ({"unreadable": torch.tensor([1.0])}, "unreadable must be int64 pool indices of shape (K,), ascending"),
        ({"unreadable": torch.tensor([[1]])}, "each once; got torch.int64 of shape (1, 1)"),
        ({"unreadable": torch.tensor([2, 1])}, "unreadable must be int64 pool indices of shape (K,), ascending"),
        ({"unreadable": torch.tensor([1, 1])}, "unreadable must be int64 pool indices of shape (K,), ascending"),
        ({"unreadable": torch.tensor([2, 4])}, "unreadable must lie in [0, 4), the pool's indices; got 2 … 4"),
        ({"unreadable": torch.tensor([-1])}, "unreadable must lie in [0, 4), the pool's indices; got -1 … -1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**changes)
