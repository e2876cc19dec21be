from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from assl_lightning.acquisition import Candidates, PowerSampling
from assl_lightning.acquisition.draw_by_weight import draw_by_weight, draw_probabilities
from assl_lightning.method.candidate_statistics import CandidateStatistics

NONE = -math.inf


def reference_probabilities(weights: Sequence[float], draws: Sequence[int], share: float) -> list[float]:
    """The definition, one draw after the other."""
    left, found = dict(enumerate(weights)), []
    for draw in draws:
        total = math.fsum(left.values())
        of_weights = left[draw] / total if total else 1 / len(left)
        found.append((1 - share) * of_weights + share / len(left))
        del left[draw]
    return found


def make_candidates(scores: Sequence[float], index: Sequence[int] | None = None) -> Candidates:
    """With these scores: the uncertainty is the score, the inconsistency 1, and neither varies."""
    score = torch.tensor(scores)
    zero = torch.zeros_like(score)
    statistics = CandidateStatistics(score, zero, zero + 1, zero, zero.int() + 1)
    return Candidates(torch.arange(len(scores)) if index is None else torch.tensor(index), statistics)


@pytest.mark.parametrize("share", [1e-3, 0.2, 1.0])
@pytest.mark.parametrize("weights", [(1, 2, 3, 4), (5, 0, 0, 1), (0, 0, 0, 0), (1e-8, 1, 1e8, 3)], ids=str)
def test_the_probabilities_are_those_of_the_definition(weights: tuple[float, ...], share: float) -> None:
    for count in (1, 3, 4):
        for draws in permutations(range(4), count):
            found = draw_probabilities(torch.tensor(weights).double().log(), torch.tensor(draws), share)
            assert found.tolist() == pytest.approx(reference_probabilities(weights, draws, share), rel=1e-12)


def test_the_probabilities_keep_their_digits_after_nearly_all_the_weight_is_gone() -> None:
    log_weight = torch.tensor([0.0, -800.0, -800.0 - math.log(3)], dtype=torch.float64)  # e⁻⁸⁰⁰ is 0 in float64
    found = draw_probabilities(log_weight, torch.tensor([0, 1, 2]), 0.2)
    assert found.tolist() == pytest.approx([0.8 + 0.2 / 3, 0.8 * 0.75 + 0.2 / 2, 1.0], rel=1e-12)


@pytest.mark.parametrize("weights", [(1, 2, 5, 12), (0, 0, 1, 3)], ids=str)
def test_sequences_are_drawn_as_often_as_their_probabilities_say(weights: tuple[float, ...]) -> None:
    log_weight, generator, draws = torch.tensor(weights).double().log(), torch.Generator().manual_seed(0), 6000
    counts = Counter(tuple(draw_by_weight(log_weight, 0.4, 3, generator)[0].tolist()) for _ in range(draws))
    sequences = [*permutations(range(4), 3)]
    expected = [draws * math.prod(reference_probabilities(weights, sequence, 0.4)) for sequence in sequences]
    assert sum(expected) == pytest.approx(draws)
    assert stats.chisquare([counts[sequence] for sequence in sequences], expected).pvalue > 1e-3


def test_a_weight_of_zero_is_drawn_last_where_nothing_is_drawn_uniformly() -> None:
    log_weight = torch.tensor([NONE, 0.0, NONE, -600.0, NONE], dtype=torch.float64)
    orders = {
        tuple(draw_by_weight(log_weight, 1e-12, 5, torch.Generator().manual_seed(seed))[0].tolist())
        for seed in range(60)
    }
    assert {order[:2] for order in orders} == {(1, 3)}
    assert {order[2:] for order in orders} == {*permutations((0, 2, 4))}


@pytest.mark.parametrize(
    ("form", "weights"),
    [
        ("power", [0.25, 4.0, 1.0, 0.0]),  # s^β
        ("softmax", [math.exp(2 * s) for s in (0.5, 2.0, 1.0, 0.0)]),
        ("softrank", [1 / 9, 1.0, 1 / 4, 1 / 16]),  # rank^−β
    ],
)
def test_the_forms_weigh_the_scores_of_the_statistics(form: Any, weights: list[float]) -> None:
    strategy, position = PowerSampling(beta=2, form=form, uniform_share=0.1), {40: 0, 10: 1, 30: 2, 20: 3}
    candidates = make_candidates([0.5, 2.0, 1.0, 0.0], index=[40, 10, 30, 20])
    for seed in range(5):
        selection = strategy.acquire(candidates, 3, torch.Generator().manual_seed(seed))
        draws = [position[pick] for pick in selection.index.tolist()]
        assert selection.scores is not None
        assert selection.scores.tolist() == [0.5, 2.0, 1.0, 0.0]
        assert probabilities(selection.pick_probabilities) == pytest.approx(
            reference_probabilities(weights, draws, 0.1), rel=1e-6
        )


def probabilities(found: Tensor | None) -> list[float]:
    assert found is not None
    values: list[float] = found.tolist()
    return values


def test_without_a_power_all_weigh_the_same_also_a_score_of_zero() -> None:
    for form in ("power", "softmax", "softrank"):
        strategy = PowerSampling(beta=0, form=form)
        selection = strategy.acquire(make_candidates([0.0, 3.0, 1.0]), 3, torch.Generator().manual_seed(0))
        assert probabilities(selection.pick_probabilities) == pytest.approx([1 / 3, 1 / 2, 1])


def test_a_large_power_takes_the_largest_scores() -> None:
    scores = torch.rand(50, generator=torch.Generator().manual_seed(3)).sort().values + torch.arange(50) / 5
    strategy = PowerSampling(beta=1000, uniform_share=1e-12)
    selection = strategy.acquire(make_candidates(scores.tolist()), 4, torch.Generator().manual_seed(0))
    assert selection.index.tolist() == [49, 48, 47, 46]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1}, "beta must be in [0, 1000]; got -1.0"),
        ({"beta": 1e9}, "beta must be in [0, 1000]; got 1000000000.0"),
        ({"beta": math.nan}, "beta must be"),
        ({"uniform_share": 0.0}, "uniform_share must be in (0, 1]; got 0.0"),
        ({"uniform_share": 1.5}, "uniform_share must be in (0, 1]; got 1.5"),
        ({"form": "rank"}, "form must be one of power, softmax, softrank; got 'rank'"),
        ({"c_u": -1}, "c_u must be at least 0"),
    ],
)
def test_arguments_outside_of_their_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PowerSampling(**arguments)


def test_a_score_that_is_no_number_is_an_error_that_names_the_sample() -> None:
    with pytest.raises(ValueError, match="the score of sample 8 is nan"):
        PowerSampling().acquire(make_candidates([1.0, math.nan], index=[4, 8]), 1, torch.Generator())
