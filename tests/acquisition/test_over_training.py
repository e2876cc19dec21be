"""Strategies that choose by what training kept beside the paper's statistics, and flip inconsistency."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition import Acquisition, Candidates, Flip, Forgetting, TemporalMean, ViewVariance


def scores_of(strategy: Acquisition, candidates: Candidates) -> Tensor:
    scores = strategy.acquire(candidates, 1, torch.Generator()).scores
    assert scores is not None
    return scores


def test_most_changes_come_first_and_of_equal_counts_all_are_as_likely() -> None:
    counts = torch.tensor([1, 3, 0, 1, 1, 1], dtype=torch.int32)
    candidates = Candidates(torch.tensor([20, 21, 22, 23, 24, 25]), forgetting=counts)
    generator = torch.Generator().manual_seed(0)
    drawn = dict.fromkeys((20, 23, 24, 25), 0)
    for _ in range(400):
        first, second = Forgetting().acquire(candidates, 2, generator).index.tolist()
        assert first == 21
        drawn[second] += 1
    assert min(drawn.values()) > 70, "100 are expected of each, with a standard deviation of 9"
    assert torch.equal(scores_of(Forgetting(), candidates), counts.float())


def test_view_variance_picks_the_largest() -> None:
    candidates = Candidates(torch.tensor([4, 7, 9]), view_variance=torch.tensor([0.1, 0.5, 0.2]))
    assert ViewVariance().acquire(candidates, 2, torch.Generator()).index.tolist() == [7, 9]


def test_entropy_and_margin_of_the_mean_by_hand_and_by_definition() -> None:
    mean = torch.tensor([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0]])
    candidates = Candidates(torch.tensor([4, 7, 9]), mean_probabilities=mean)
    entropies = [-sum(p * math.log(p) for p in row if p) for row in mean.tolist()]
    margins = [sorted(row)[-2] - max(row) for row in mean.tolist()]
    torch.testing.assert_close(
        scores_of(TemporalMean(), candidates), torch.tensor(entropies).double(), rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        scores_of(TemporalMean("margin"), candidates), torch.tensor(margins).double(), rtol=1e-6, atol=1e-6
    )
    assert TemporalMean().acquire(candidates, 1, torch.Generator()).index.tolist() == [7]
    assert TemporalMean("margin").acquire(candidates, 1, torch.Generator()).index.tolist() == [4]
    with pytest.raises(ValueError, match="measure must be"):
        TemporalMean("variance")  # type: ignore[arg-type]


def reference_symmetric_kl(a: list[float], b: list[float]) -> float:
    def softmax(row: list[float]) -> list[float]:
        weights = [math.exp(value) for value in row]
        return [weight / math.fsum(weights) for weight in weights]

    return math.fsum((p - q) * (math.log(p) - math.log(q)) for p, q in zip(softmax(a), softmax(b), strict=True)) / 2


def test_flip_inconsistency_equals_the_loop_over_its_definition() -> None:
    plain, flipped = 3 * torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0))
    flipped[3] = plain[3]
    candidates = Candidates(torch.arange(20), logits=plain, flipped_logits=flipped)
    expected = [reference_symmetric_kl(*pair) for pair in zip(plain.tolist(), flipped.tolist(), strict=True)]
    found = scores_of(Flip(), candidates)
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-6, atol=1e-9)
    assert found[3] == 0
    assert Flip().acquire(candidates, 19, torch.Generator()).index[-1] != 3
