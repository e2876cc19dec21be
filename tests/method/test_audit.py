"""The audited trust against sums over pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from assl_lightning.method.audit import audited_trust


def over_pairs(statistic: Tensor, wrong: Tensor, rounds_ago: Tensor) -> float:
    """The definition, pair by pair: a wrong and a right prediction count as much as the product of their weights."""
    weight: list[float] = [0.7**age for age in rounds_ago.tolist()]
    rows: list[tuple[float, bool, float]] = list(zip(statistic.tolist(), wrong.tolist(), weight, strict=True))
    pairs = [(u, v, a * b) for u, is_wrong, a in rows if is_wrong for v, other, b in rows if not other]
    if not pairs:
        return 0.0
    auroc = sum(w * ((u > v) + 0.5 * (u == v)) for u, v, w in pairs) / sum(w for _, _, w in pairs)
    of_wrong = sum(w for _, is_wrong, w in rows if is_wrong)
    of_right = sum(w for _, is_wrong, w in rows if not is_wrong)
    evidence = 2 * of_wrong * of_right / (of_wrong + of_right)
    return max(0.0, 2 * float(evidence * auroc + 5) / (evidence + 10) - 1)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_a_sum_over_pairs_gives(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = 3 + 5 * seed
    wrong = torch.rand(rows, generator=generator) < 0.4
    statistic = (torch.rand(rows, generator=generator) + 0.5 * wrong).mul(10).round() / 10  # with ties
    rounds_ago = torch.randint(1, 5, (rows,), generator=generator)
    assert audited_trust(statistic, wrong, rounds_ago) == pytest.approx(over_pairs(statistic, wrong, rounds_ago))


@pytest.mark.parametrize("wrong", [[], [True], [False], [True] * 30, [False] * 30])
def test_without_both_wrong_and_right_predictions_there_is_no_trust(wrong: list[bool]) -> None:
    rows = len(wrong)
    assert audited_trust(torch.rand(rows), torch.tensor(wrong, dtype=torch.bool), torch.ones(rows).long()) == 0.0


def test_a_statistic_that_points_the_wrong_way_is_not_trusted_and_a_perfect_one_more_with_every_sample() -> None:
    wrong = torch.tensor([True, False] * 8)
    ages = torch.ones(16).long()
    assert audited_trust(-wrong.double(), wrong, ages) == 0.0
    assert audited_trust(torch.ones(16), wrong, ages) == 0.0
    trust = [audited_trust(wrong[:rows].double(), wrong[:rows], ages[:rows]) for rows in (2, 4, 8, 16)]
    assert trust == sorted(set(trust))
    assert 0 < trust[0] < trust[-1] < 1


def test_what_was_seen_lately_counts_more() -> None:
    wrong = torch.tensor([True, False, True, False])
    statistic = torch.tensor([1.0, 0.0, 0.0, 1.0])  # the first two bear it out, the others do not
    good_is_new = audited_trust(statistic, wrong, torch.tensor([1, 1, 4, 4]))
    good_is_old = audited_trust(statistic, wrong, torch.tensor([4, 4, 1, 1]))
    assert good_is_new > 0.0 == good_is_old
