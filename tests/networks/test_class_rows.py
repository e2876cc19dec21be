"""A classifier whose classes change between two rounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assl_lightning.networks.class_rows import carry_rows
from assl_lightning.networks.small import SmallCNN


def logits(state: dict[str, torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    return features @ state["head.weight"].T + state["head.bias"]


def test_rows_that_stay_are_kept_to_the_last_bit_and_new_ones_begin_anew() -> None:
    before, after = SmallCNN(3, width=2).state_dict(), SmallCNN(4, width=2)
    carried = carry_rows(before, after.head, (0, 1, 2), "head.")
    for name, value in carried.items():
        if not name.startswith("head."):
            assert value is before[name]
            continue
        assert torch.equal(value[:3], before[name])
        assert torch.equal(value[3], after.state_dict()[name][3])
    after.load_state_dict(carried)


def test_rows_follow_their_classes_to_other_places() -> None:
    before, after = SmallCNN(3, width=2).state_dict(), SmallCNN(3, width=2)
    carried = carry_rows(before, after.head, (2, None, 0), "head.")
    assert torch.equal(carried["head.weight"][[2, 0]], before["head.weight"][[0, 2]])
    assert torch.equal(carried["head.weight"][1], after.state_dict()["head.weight"][1])


def test_merged_rows_give_the_sum_of_equal_probabilities_and_never_more() -> None:
    before = {name: value.double() for name, value in SmallCNN(4, width=2).state_dict().items()}
    carried = carry_rows(before, SmallCNN(2, width=2).head, (0, 1, 1, 1), "head.")
    features = torch.randn(50, 8, dtype=torch.float64)
    exact = logits(before, features)[:, 1:].logsumexp(1)
    assert bool((logits(carried, features)[:, 1] <= exact + 1e-12).all())
    equal = before | {
        "head.weight": before["head.weight"][[0, 1, 1, 1]],
        "head.bias": before["head.bias"][[0, 1, 1, 1]],
    }
    carried = carry_rows(equal, SmallCNN(2, width=2).head, (0, 1, 1, 1), "head.")
    torch.testing.assert_close(logits(carried, features)[:, 1], logits(equal, features)[:, 1:].logsumexp(1))


def test_a_head_without_rows_for_the_classes_is_refused() -> None:
    before = SmallCNN(3, width=2).state_dict()
    with pytest.raises(ValueError, match=r"head.weight with a row for each of its 2 classes; its shape is \(3, 8\)"):
        carry_rows(before, SmallCNN(4, width=2).head, (0, 1), "head.")
    with pytest.raises(ValueError, match=r"must end in an nn\.Linear; Identity has none"):
        carry_rows(before, nn.Identity(), (0, 1, 2), "head.")
