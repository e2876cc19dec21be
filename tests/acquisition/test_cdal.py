"""CDAL against a loop in float64 that forms both KL divergences of every pair from their definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from assl_lightning.acquisition.cdal import CDAL
from assl_lightning.method.candidates import Candidates, LabelledSamples
from tests.acquisition.test_contract import scores_of

Distribution = list[tuple[float, float]]  # (p, log p) of each class


def make_candidates(logits: Tensor, labelled: Tensor, index: Tensor | None = None) -> Candidates:
    samples = LabelledSamples(
        index=torch.arange(1000, 1000 + len(labelled)),
        labels=torch.zeros(len(labelled), dtype=torch.int64),
        logits=labelled,
        features=torch.zeros(len(labelled), 1),
    )
    return Candidates(torch.arange(len(logits)) if index is None else index, logits=logits, labelled=samples)


def reference_softmax(values: list[float]) -> Distribution:
    normaliser = max(values) + math.log(math.fsum(math.exp(value - max(values)) for value in values))
    return [(math.exp(value - normaliser), value - normaliser) for value in values]


def reference_distributions(logits: Tensor, double_softmax: bool) -> list[Distribution]:
    once = [reference_softmax(row) for row in logits.double().tolist()]
    return [reference_softmax([p for p, _ in row]) for row in once] if double_softmax else once


def reference_distance(a: Distribution, b: Distribution) -> float:
    """(KL(a ‖ b) + KL(b ‖ a)) / 2, the same for all pairs that differ by a permutation of classes."""
    pairs = list(zip(a, b, strict=True))
    forth = [p * (log_p - log_q) for (p, log_p), (_, log_q) in pairs]
    back = [q * (log_q - log_p) for (_, log_p), (q, log_q) in pairs]
    return math.fsum(forth + back) / 2


def reference_scores(candidates: Candidates, double_softmax: bool) -> list[float]:
    assert candidates.logits is not None
    assert candidates.labelled is not None
    labelled = reference_distributions(candidates.labelled.require("logits"), double_softmax)
    rows = reference_distributions(candidates.logits, double_softmax)
    return [min((reference_distance(row, centre) for centre in labelled), default=math.inf) for row in rows]


def reference_picks(candidates: Candidates, budget: int, double_softmax: bool) -> list[int]:
    """Repeatedly the candidate farthest from all labelled and picked ones; of equally far ones that of lowest index."""
    assert candidates.logits is not None
    index = candidates.index.tolist()
    rows = dict(zip(index, reference_distributions(candidates.logits, double_softmax), strict=True))
    nearest = dict(zip(index, reference_scores(candidates, double_softmax), strict=True))
    picks: list[int] = []
    for _ in range(budget):
        pick = max(nearest, key=lambda m: (nearest[m], -m))
        picks.append(pick)
        del nearest[pick]
        nearest = {m: min(near, reference_distance(rows[m], rows[pick])) for m, near in nearest.items()}
    return picks


def acquire(strategy: CDAL, candidates: Candidates, budget: int) -> list[int]:
    picks: list[int] = strategy.acquire(candidates, budget, torch.Generator()).index.tolist()
    return picks


@pytest.mark.parametrize("double_softmax", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("classes", "labelled"), [(3, 9), (10, 0), (10, 1), (10, 9), (40, 9)])
@pytest.mark.parametrize("seed", range(2))
def test_the_picks_equal_those_of_a_loop_over_all_pairs(
    double_softmax: bool, dtype: torch.dtype, classes: int, labelled: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(50, classes, generator=generator).to(dtype)
    logits[20:26] = logits[20].clone()  # the same prediction six times
    known = 3 * torch.randn(labelled, classes, generator=generator).to(dtype)
    known[: labelled // 2] = logits[18 : 18 + labelled // 2]  # two candidates and copies of one have a labelled twin
    candidates = make_candidates(logits, known, torch.randperm(500, generator=generator)[:50])
    for budget in (1, 12, 50):
        assert acquire(CDAL(double_softmax), candidates, budget) == reference_picks(candidates, budget, double_softmax)


@pytest.mark.parametrize("double_softmax", [True, False])
@pytest.mark.parametrize("labelled", [0, 1, 5])
@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("magnitude", [20.0, 1e4])
def test_of_one_hot_predictions_each_class_is_picked_once_and_then_the_lowest_indices(
    double_softmax: bool, labelled: int, classes: int, magnitude: float
) -> None:
    predicted = torch.randint(0, classes - 1, (60,), generator=torch.Generator().manual_seed(classes))
    one_hot = torch.full((60, classes), -magnitude)  # the last class is nobody's
    one_hot[torch.arange(60), predicted] = magnitude
    candidates = make_candidates(one_hot[labelled:], one_hot[:labelled])
    picks = acquire(CDAL(double_softmax), candidates, 60 - labelled)
    assert picks == reference_picks(candidates, 60 - labelled, double_softmax)
    new = set(predicted.tolist()) - set(predicted[:labelled].tolist())
    assert {int(predicted[labelled + pick]) for pick in picks[: len(new)]} == new
    assert picks[len(new) :] == sorted(picks[len(new) :])


@pytest.mark.parametrize("double_softmax", [True, False])
@pytest.mark.parametrize("magnitude", [1.0, 30.0, 1e4])
def test_scores_are_the_distances_to_the_nearest_labelled_sample_and_finite(
    double_softmax: bool, magnitude: float
) -> None:
    logits = magnitude * torch.randn(80, 10, generator=torch.Generator().manual_seed(0))
    candidates = make_candidates(logits[20:], logits[:30])  # ten candidates are labelled samples' twins
    scores = scores_of(CDAL(double_softmax), candidates)
    assert bool(scores.isfinite().all())
    torch.testing.assert_close(scores, torch.tensor(reference_scores(candidates, double_softmax)), rtol=1e-5, atol=1e-9)
    assert scores[:10].tolist() == [0.0] * 10


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_a_second_softmax_bounds_the_distance_of_opposite_predictions(classes: int) -> None:
    opposite = 1e4 * torch.eye(classes)[:2]
    scores = scores_of(CDAL(), make_candidates(opposite[:1], opposite[1:]))
    assert scores.item() == pytest.approx((math.e - 1) / (math.e + classes - 1))
    unbounded = scores_of(CDAL(double_softmax=False), make_candidates(opposite[:1], opposite[1:]))
    assert unbounded.item() == pytest.approx(1e4)
