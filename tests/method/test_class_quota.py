"""The quota against a loop over its definition."""

from __future__ import annotations

import math

import pytest
import torch

from assl_lightning.method.class_quota import ClassQuota, equal_shares


def total(probabilities: list[list[float]], wanted: list[float], picks: list[int]) -> float:
    """Σ_c min(δ_c, Σ_s p_c(s)), summed afresh."""
    return sum(min(most, sum(probabilities[pick][c] for pick in picks)) for c, most in enumerate(wanted))


@pytest.mark.parametrize("seed", range(10))
def test_a_gain_is_what_a_pick_adds_to_the_sum(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(12, 4, generator=generator, dtype=torch.float64).softmax(1)
    wanted = 2 * torch.rand(4, generator=generator, dtype=torch.float64) * torch.tensor([1, 1, 1, 0])
    quota = ClassQuota(probabilities, wanted, torch.zeros(12, dtype=torch.float64))
    picks: list[int] = []
    table, most = probabilities.tolist(), wanted.tolist()
    for _ in range(8):
        gains = quota.gains_after(None, torch.tensor(picks, dtype=torch.int64))
        others = [row for row in range(12) if row not in picks]
        for row in others:
            more = total(table, most, [*picks, row]) - total(table, most, picks)
            assert float(gains[row]) == pytest.approx(more, abs=1e-12)
        some = torch.tensor(others)
        assert torch.equal(quota.gains_after(some, torch.tensor(picks, dtype=torch.int64)), gains[some])
        picks.append(others[seed % len(others)])


def test_what_is_wanted_is_an_equal_share_of_the_labels_after_the_batch() -> None:
    quota = equal_shares(torch.zeros(5, 3, dtype=torch.float64), torch.tensor([0, 0, 0, 0, 1]), budget=4)
    assert quota.wanted.tolist() == [0.0, 2.0, 3.0]
    none = equal_shares(torch.zeros(5, 3, dtype=torch.float64), torch.tensor([], dtype=torch.int64), budget=6)
    assert none.wanted.tolist() == [2.0, 2.0, 2.0]


def test_the_probabilities_are_divided_by_the_root_of_their_mean() -> None:
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + torch.tensor(
        [3, 0, 0]
    )
    rows = [[math.exp(value) for value in row] for row in logits.tolist()]
    plain = [[value / sum(row) for value in row] for row in rows]
    prior = [sum(row[c] for row in plain) / 7 for c in range(3)]
    adjusted = [[value / math.sqrt(prior[c]) for c, value in enumerate(row)] for row in plain]
    expected = [[value / sum(row) for value in row] for row in adjusted]
    quota = equal_shares(logits, torch.tensor([0]), budget=2)
    assert torch.allclose(quota.probabilities, torch.tensor(expected, dtype=torch.float64))


def test_a_class_that_no_candidate_has_changes_nothing_to_nan() -> None:
    logits = torch.tensor([[0.0, -2000.0], [0.0, -2000.0]], dtype=torch.float64)
    quota = equal_shares(logits, torch.tensor([0]), budget=1)
    assert quota.probabilities.isfinite().all()
    assert quota.gains_after(None, torch.tensor([], dtype=torch.int64)).isfinite().all()
