"""D² sampling against a loop in float64 that forms the points score · features, given the same uniform numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from assl_lightning.method.assl_div import ASSLDiv
from assl_lightning.method.bounds import Factors, confidence_bound
from assl_lightning.method.candidate_statistics import CandidateStatistics
from assl_lightning.method.candidates import Candidates
from assl_lightning.method.d2_sampling import FirstCentre


def make_candidates(score: Tensor, features: Tensor, index: Tensor | None = None) -> Candidates:
    """Candidates whose Eq. 6 score is `score` (M,): an inconsistency of 1 and no variances."""
    zero = torch.zeros_like(score)
    statistics = CandidateStatistics(score, zero, zero + 1, zero, visits=torch.ones(len(score), dtype=torch.int32))
    return Candidates(torch.arange(len(score)) if index is None else index, statistics=statistics, features=features)


def reference_picks(
    candidates: Candidates, budget: int, seed: int, first: FirstCentre, normalize: bool, factors: Factors = "both"
) -> list[int]:
    """k-means++ over e = score · h, formed explicitly; samples in the order of their index."""
    assert candidates.features is not None
    scores = confidence_bound(candidates.require("statistics"), 0.5, 2.0, factors).double()
    points: dict[int, list[float]] = {}
    for m in torch.argsort(candidates.index).tolist():
        row = candidates.features[m].double().tolist()
        length = math.hypot(*row) if normalize else 1.0
        points[int(candidates.index[m])] = [float(scores[m]) * h / length if length > 0 else 0.0 for h in row]

    uniform = torch.rand(budget, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tolist()
    picks: list[int] = []
    for number in uniform:
        if not picks and first == "norm":
            picks.append(max(points, key=lambda m: (math.hypot(*points[m]), -m)))
            continue
        weights = {
            m: 0.0 if m in picks else min((math.dist(e, points[j]) ** 2 for j in picks), default=1.0)
            for m, e in points.items()
        }
        if sum(weights.values()) == 0:
            weights = {m: float(m not in picks) for m in points}
        threshold, running = number * sum(weights.values()), 0.0
        for m, weight in weights.items():
            running += weight
            if running > threshold:
                picks.append(m)
                break
    return picks


def acquire(strategy: ASSLDiv, candidates: Candidates, budget: int, seed: int) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator().manual_seed(seed)).index.tolist()
    return picks


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("first", ["norm", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_the_picks_equal_those_of_a_loop_that_forms_the_points(
    normalize: bool, first: FirstCentre, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(1000 + seed)
    features = torch.randn(60, 16, generator=generator).relu().to(dtype)
    score = torch.randn(60, generator=generator).exp()  # heavy-tailed, as Eq. 6 is
    features[20:26], score[20:26] = features[20].clone(), float(score[20])  # the same point six times
    features[3] = 0
    candidates = make_candidates(score, features, torch.randperm(500, generator=generator)[:60])
    strategy = ASSLDiv(first=first, normalize_features=normalize)
    for budget in (1, 12, 60):
        assert acquire(strategy, candidates, budget, seed) == reference_picks(
            candidates, budget, seed, first, normalize
        )


@pytest.mark.parametrize("factors", ["both", "uncertainty", "inconsistency"])
def test_the_length_of_a_point_is_the_chosen_factor(factors: Factors) -> None:
    generator = torch.Generator().manual_seed(3)
    u, u_variance, i, i_variance = torch.rand(4, 40, generator=generator)
    statistics = CandidateStatistics(u, u_variance, i, i_variance, torch.ones(40, dtype=torch.int32))
    candidates = Candidates(torch.arange(40), statistics, features=torch.randn(40, 5, generator=generator))
    strategy = ASSLDiv(factors=factors)
    scores = strategy.acquire(candidates, 10, torch.Generator()).scores
    assert scores is not None
    torch.testing.assert_close(scores, confidence_bound(statistics, 0.5, 2.0, factors))
    assert acquire(strategy, candidates, 10, 0) == reference_picks(candidates, 10, 0, "norm", False, factors)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_is_an_error_that_names_the_sample(value: float) -> None:
    score, features, index = torch.ones(4), torch.ones(4, 2), torch.tensor([40, 30, 20, 10])
    broken_features, broken_score = features.clone(), score.clone()
    broken_features[1, 1], broken_score[2] = value, value
    with pytest.raises(
        ValueError, match=r"length of the feature vector of sample 30 is (nan|inf), not a finite number"
    ):
        acquire(ASSLDiv(), make_candidates(score, broken_features, index), 2, 0)
    with pytest.raises(ValueError, match=r"score of sample 20 is (nan|inf), not a finite number"):
        acquire(ASSLDiv(), make_candidates(broken_score, features, index), 2, 0)


def test_features_of_other_samples_are_an_error() -> None:
    candidates = replace(make_candidates(torch.ones(4), torch.ones(4, 2)), features=torch.ones(5, 2))
    with pytest.raises(ValueError, match=r"one number for each candidate, shape \(4,\); got \(5,\)"):
        acquire(ASSLDiv(), candidates, 2, 0)


def test_a_wrong_argument_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="first must be one of norm, uniform; got 'random'"):
        ASSLDiv(first="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="c_u must be at least 0"):
        ASSLDiv(c_u=-1.0)
    with pytest.raises(ValueError, match="factors must be one of"):
        ASSLDiv(factors="none")  # type: ignore[arg-type]
