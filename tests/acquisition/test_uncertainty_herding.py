"""Uncertainty herding as published: the weight, the width and the temperature, and its picks by a loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from assl_lightning.acquisition.uncertainty_herding import (
    UncertaintyHerding,
    calibration_error,
    find_temperature,
    smallest_distance,
)
from assl_lightning.method.candidates import Candidates, LabelledSamples
from assl_lightning.method.coverage import unit_vectors
from tests.method.test_herding import check_greedy


def random_candidates(rows: int, labelled: int, seed: int = 0) -> Candidates:
    """Candidates in three overlapping clusters, whose logits are their features."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(rows + labelled) % 3
    features = 2 * torch.eye(3)[classes] + torch.randn(rows + labelled, 3, generator=generator)
    samples = LabelledSamples(torch.arange(labelled) + 1000, classes[rows:], features[rows:], features[rows:])
    return Candidates(torch.arange(rows), logits=features[:rows], features=features[:rows], labelled=samples)


def acquire(candidates: Candidates, budget: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    picks: list[int] = UncertaintyHerding().acquire(candidates, budget, generator).index.tolist()
    return picks


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("labelled", [0, 1, 2, 20])
def test_each_pick_adds_the_most_by_a_loop_over_the_definition(seed: int, labelled: int) -> None:
    candidates = random_candidates(40, labelled, seed)
    samples = candidates.require("labelled")
    points = unit_vectors(samples.features, samples.index)
    weight = torch.ones(40)
    if labelled:
        temperature = find_temperature(points, samples, torch.Generator().manual_seed(seed))
        first, second = (candidates.require("logits").double() / temperature).softmax(1).topk(2).values.unbind(1)
        weight = 1 - (first - second)
    check_greedy(acquire(candidates, 10, seed), candidates, weight, smallest_distance(points))


def test_the_width_is_the_smallest_distance_of_two_labelled_samples_that_differ() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    assert smallest_distance(points) == pytest.approx(math.dist((0.0, 1.0), (0.6, 0.8)))
    assert smallest_distance(points[:1]) == smallest_distance(points[[0, 2]]) == 1


def test_the_calibration_error_is_the_mean_gap_of_confidence_and_accuracy() -> None:
    confidence = np.array([0.9, 0.9, 0.6])
    logits = np.log(np.stack([confidence, 1 - confidence], 1))
    found = calibration_error(logits, np.array([True, False, True]))
    assert found == pytest.approx((abs(1 - 1.8) + abs(1 - 0.6)) / 3)


def test_overconfident_predictions_get_a_temperature_above_one() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    features = (labels * 2 - 1)[:, None] * torch.tensor([[8.0, 0.0]]) + 6 * torch.randn(400, 2, generator=generator)
    labels = torch.where(torch.rand(400, generator=generator) < 0.2, 1 - labels, labels)  # a fifth is wrong
    samples = LabelledSamples(torch.arange(400), labels, features, features)
    assert 1 <= find_temperature(features.double(), samples, generator) <= 20
    one_class = replace(samples, labels=torch.zeros(400, dtype=torch.int64))
    assert find_temperature(features.double(), one_class, generator) == 1


def test_the_order_of_the_labelled_samples_does_not_matter() -> None:
    candidates = random_candidates(60, 30)
    samples, order = candidates.require("labelled"), torch.randperm(30, generator=torch.Generator().manual_seed(1))
    shuffled = LabelledSamples(
        samples.index[order], samples.labels[order], samples.require("logits")[order], samples.features[order]
    )
    assert acquire(replace(candidates, labelled=shuffled), 15) == acquire(candidates, 15)


def test_logits_that_are_not_finite_are_an_error_that_names_the_sample() -> None:
    candidates = random_candidates(20, 6)
    logits = candidates.require("logits").clone()
    logits[4, 0] = torch.nan
    with pytest.raises(ValueError, match="sample 4 "):
        acquire(replace(candidates, logits=logits), 3)
