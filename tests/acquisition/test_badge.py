"""BADGE against embeddings (M, C·d) that are formed in float64, and a loop over k-means++ given the same numbers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition.badge import BADGE
from assl_lightning.method.candidates import Candidates
from assl_lightning.method.d2_sampling import FirstCentre
from assl_lightning.method.scores import pseudo_el2n
from tests.acquisition.test_contract import scores_of


def make_candidates(logits: Tensor, features: Tensor, index: Tensor | None = None) -> Candidates:
    return Candidates(torch.arange(len(logits)) if index is None else index, logits=logits, features=features)


def reference_embeddings(candidates: Candidates) -> dict[int, list[float]]:
    """Pool index → g = h ⊗ (onehot(argmax p) − p), C·d numbers; samples in the order of their index."""
    assert candidates.logits is not None
    assert candidates.features is not None
    embeddings: dict[int, list[float]] = {}
    for m in torch.argsort(candidates.index).tolist():
        logits = candidates.logits[m].double().tolist()
        largest = max(logits)
        powers = [math.exp(logit - largest) for logit in logits]
        others = [power / sum(powers) for power in powers]
        label = logits.index(largest)
        others[label] = 0.0
        difference = [sum(others) if c == label else -p for c, p in enumerate(others)]
        features = candidates.features[m].double().tolist()
        embeddings[int(candidates.index[m])] = [a * h for a in difference for h in features]
    return embeddings


def reference_picks(candidates: Candidates, budget: int, seed: int, first: FirstCentre) -> list[int]:
    """k-means++ seeding over the embeddings; one uniform number for each pick (unused by a "norm" start)."""
    points = reference_embeddings(candidates)
    picks: list[int] = []
    nearest = dict.fromkeys(points, 1.0)  # squared distance to the nearest pick
    for number in torch.rand(budget, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tolist():
        if not picks and first == "norm":
            pick = max(points, key=lambda m: (math.hypot(*points[m]), -m))
        else:
            weights = {m: 0.0 if m in picks else weight for m, weight in nearest.items()}
            if sum(weights.values()) == 0:
                weights = {m: float(m not in picks) for m in points}
            threshold = number * sum(weights.values())
            running = zip(weights, itertools.accumulate(weights.values()), strict=True)
            pick = next(m for m, total in running if total > threshold)
        distance = {m: math.dist(points[m], points[pick]) ** 2 for m in points}
        nearest = {m: min(nearest[m], distance[m]) if picks else distance[m] for m in points}
        picks.append(pick)
    return picks


def acquire(strategy: BADGE, candidates: Candidates, budget: int, seed: int = 0) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator().manual_seed(seed)).index.tolist()
    return picks


@pytest.mark.parametrize("first", ["norm", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_the_picks_equal_those_of_a_loop_over_embeddings_that_are_formed(
    first: FirstCentre, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(1000 + seed)
    features = torch.randn(50, 12, generator=generator).relu().to(dtype)
    logits = (3 * torch.randn(50, 5, generator=generator)).to(dtype)
    features[20:26], logits[20:26] = features[20].clone(), logits[20].clone()  # the same point six times
    features[3] = 0
    candidates = make_candidates(logits, features, torch.randperm(500, generator=generator)[:50])
    for budget in (1, 12, 50):
        assert acquire(BADGE(first), candidates, budget, seed) == reference_picks(candidates, budget, seed, first)


def test_the_scores_are_the_lengths_of_the_embeddings_in_the_order_of_the_candidates() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, features = 4 * torch.randn(30, 6, generator=generator), torch.randn(30, 9, generator=generator)
    candidates = make_candidates(logits, features, torch.randperm(30, generator=generator))
    embeddings = reference_embeddings(candidates)
    lengths = torch.tensor([math.hypot(*embeddings[m]) for m in candidates.index.tolist()], dtype=torch.float64)
    torch.testing.assert_close(scores_of(BADGE(), candidates), lengths, rtol=1e-6, atol=0)


def test_the_length_of_an_embedding_is_pseudo_el2n_times_the_length_of_the_features_also_where_saturated() -> None:
    gaps = torch.tensor([0.0, 1.0, 20.0, 80.0, 300.0], dtype=torch.float64)
    logits = torch.stack([gaps, torch.zeros_like(gaps), -gaps], dim=1)
    scores = scores_of(BADGE(), make_candidates(logits, torch.tensor([[3.0, 4.0]]).repeat(5, 1)))
    torch.testing.assert_close(scores, 5 * pseudo_el2n(logits), rtol=1e-7, atol=0)
    assert bool((scores > 0).all())


def test_samples_that_are_all_saturated_are_still_told_apart() -> None:
    logits = torch.tensor([[60.0, 0.0, 0.0], [50.0, 0.0, 0.0], [0.0, 55.0, 0.0]])
    candidates = make_candidates(logits, torch.ones(3, 4))
    for seed in range(20):
        # e⁻⁵⁰ is the longest; of the others e⁻⁵⁵ points elsewhere, and still both lie about e⁻⁵⁰ away
        assert acquire(BADGE(), candidates, 3, seed) == reference_picks(candidates, 3, seed, "norm")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_is_an_error_that_names_the_sample(value: float) -> None:
    logits, features, index = torch.zeros(4, 3), torch.ones(4, 2), torch.tensor([40, 30, 20, 10])
    broken_features, broken_logits = features.clone(), logits.clone()
    broken_features[1, 1], broken_logits[2, 0] = value, value
    with pytest.raises(ValueError, match=r"length of the feature vector of sample 30 is (nan|inf), not a finite"):
        acquire(BADGE(), make_candidates(logits, broken_features, index), 2)
    with pytest.raises(ValueError, match="pseudo-EL2N of sample 20 is nan, not a finite number"):
        acquire(BADGE(), make_candidates(broken_logits, features, index), 2)


def test_features_of_other_samples_are_an_error() -> None:
    candidates = replace(make_candidates(torch.zeros(4, 3), torch.ones(4, 2)), features=torch.ones(5, 2))
    with pytest.raises(ValueError, match=r"one number for each candidate, shape \(4,\); got \(5,\)"):
        acquire(BADGE(), candidates, 2)


def test_the_inputs_are_left_as_they_were() -> None:
    logits, features = torch.randn(6, 3, dtype=torch.float64), torch.rand(6, 2)
    before = logits.clone(), features.clone()
    acquire(BADGE(), make_candidates(logits, features, torch.arange(6).flip(0)), 6)
    torch.testing.assert_close((logits, features), before, rtol=0, atol=0)


def test_an_unknown_start_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="first must be one of norm, uniform; got 'random'"):
        BADGE(first="random")  # type: ignore[arg-type]
