"""SoftMatch against its rule in float64, and its laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from assl_lightning.learning.softmatch import SoftMatch
from tests.learning.judging import CLASSES, argmax, column_means, logits_of, make, moved, probabilities, steps


@pytest.mark.parametrize("warm_up", [True, False])
def test_fifty_steps_are_those_of_the_rule(warm_up: bool) -> None:
    learner = make(SoftMatch, momentum=0.95, momentum_warm_up=warm_up)
    of_pool, mean, variance = [1 / CLASSES] * CLASSES, 1 / CLASSES, 1.0
    for step, (weak, labelled) in enumerate(steps(50)):
        rows = probabilities(weak)
        momentum = min(0.95, step / (step + 1)) if warm_up else 0.95
        first = momentum if step or warm_up else 0.0
        of_pool = moved(of_pool, column_means(rows), first)
        confidence = []
        for row in rows:
            scaled = [p * (1 / CLASSES + 1e-6) / (o + 1e-6) for p, o in zip(row, of_pool, strict=True)]
            confidence.append(max(scaled) / sum(scaled))
        here = sum(confidence) / len(confidence)
        spread = sum((value - here) ** 2 for value in confidence) / (len(confidence) - 1)
        mean, variance = moved([mean, variance], [here, spread], momentum)
        expected = [math.exp(-(min(value - mean, 0.0) ** 2) * 4 / (2 * variance)) for value in confidence]

        pseudo = learner.judge(weak, labelled, torch.arange(len(weak)))
        assert pseudo.label.tolist() == [argmax(row) for row in rows]
        assert pseudo.weight.tolist() == pytest.approx(expected, abs=1e-4)
        assert float(learner.confidence["mean"]) == pytest.approx(mean, abs=1e-5)
        assert float(learner.confidence["variance"]) == pytest.approx(variance, abs=1e-5)


def test_a_confidence_above_the_mean_counts_fully_and_one_a_deviation_below_by_e_to_the_minus_two() -> None:
    learner = make(SoftMatch, classes=2, target="none", momentum=0.0)
    rows = [[0.9, 0.1], [0.5, 0.5]]  # mean 0.7, deviation 0.2 · √2
    pseudo = learner.judge(logits_of(rows), logits_of(rows), torch.arange(2))
    assert pseudo.weight.tolist() == pytest.approx([1.0, math.exp(-(0.2**2) * 4 / (2 * 0.08))], abs=1e-5)
    learner.confidence["mean"].fill_(0.8)
    learner.confidence["variance"].fill_(0.04)
    learner.confidence.update = lambda **_: None  # type: ignore[method-assign]
    one_below = logits_of([[0.6, 0.4]])
    assert learner.judge(one_below, one_below, torch.arange(1)).weight.item() == pytest.approx(math.exp(-2), abs=1e-5)


def test_as_published_a_short_round_weighs_nothing_and_with_the_warm_up_it_does() -> None:
    least = {}
    for warm_up in (True, False):
        learner = make(SoftMatch, target="none", momentum_warm_up=warm_up)
        for weak, labelled in steps(130):
            pseudo = learner.judge(weak, labelled, torch.arange(len(weak)))
        least[warm_up] = float(pseudo.weight.min())
    assert least[False] > 0.9 > 0.6 > least[True]


def test_one_row_has_no_variance_and_the_last_one_stays() -> None:
    learner = make(SoftMatch, classes=2, target="none")
    pair, one = logits_of([[0.9, 0.1], [0.5, 0.5]]), logits_of([[0.6, 0.4]])
    learner.judge(pair, pair, torch.arange(2))
    pseudo = learner.judge(one, one, torch.arange(1))
    assert float(learner.confidence["variance"]) == pytest.approx(0.08)
    assert float(learner.confidence["mean"]) == pytest.approx(0.65)
    assert pseudo.weight.tolist() == pytest.approx([math.exp(-(0.05**2) * 4 / (2 * 0.08))], abs=1e-5)


def test_alignment_changes_no_label_and_equal_confidences_all_count() -> None:
    skewed = logits_of([[0.6, 0.4, 0.0001, 0.0001]] * 6)
    learner = make(SoftMatch)
    pseudo = learner.judge(skewed, skewed, torch.arange(6))
    assert pseudo.label.tolist() == [0] * 6
    assert pseudo.weight.tolist() == [1.0] * 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_sigma": 0}, "n_sigma must be above 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"target": "prior"}, "prior must be given"),
    ],
)
def test_an_impossible_setting_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(SoftMatch, **arguments)
