"""What fits together, and each contradiction by itself; what the command line makes of them is in test_build.py."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch

from assl_lightning.acquisition.badge import BADGE
from assl_lightning.acquisition.bald import BALD
from assl_lightning.acquisition.coreset import CoreSet
from assl_lightning.acquisition.flip import Flip
from assl_lightning.acquisition.forgetting import Forgetting
from assl_lightning.acquisition.kmeans_plus_plus import KMeansPlusPlus
from assl_lightning.acquisition.random import RandomSampling
from assl_lightning.acquisition.uncertainty import Entropy
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.supervised import Supervised
from assl_lightning.loop import RoundSettings, ScoreSettings
from assl_lightning.loop.requirements import find_contradictions
from assl_lightning.method.assl import ASSL
from assl_lightning.method.assl_div import ASSLDiv
from assl_lightning.networks.small import SmallCNN

TRAINING = RoundSettings(acquisition_features="training")


def make(kind: type[Algorithm]) -> Algorithm:
    return kind(SmallCNN(3, width=4), optimizer=functools.partial(torch.optim.SGD, lr=0.1))


class Misspelt(RandomSampling):  # type: ignore[misc]
    requires = frozenset({"statistics", "logit"})  # type: ignore[arg-type]


FITTING: list[tuple[Any, type[Algorithm], RoundSettings, int]] = [
    (ASSL(), FixMatch, RoundSettings(), 7),
    (ASSLDiv(), FixMatch, TRAINING, 1),
    (RandomSampling(), FixMatch, RoundSettings(), 7),
    (RandomSampling(), Supervised, RoundSettings(), 0),
    (CoreSet(), Supervised, RoundSettings(), 0),
    (CoreSet(), FixMatch, RoundSettings(), 7),
    (KMeansPlusPlus(), FixMatch, TRAINING, 7),
    (CoreSet(), FixMatch, TRAINING, 7),
    (BALD(), FixMatch, TRAINING, 7),
    (Forgetting(), FixMatch, RoundSettings(score=ScoreSettings(reset=False), unvisited="infer"), 7),
    (Flip(), Supervised, RoundSettings(), 0),
    # features of training are nothing to a strategy without features
    (ASSL(), FixMatch, replace(TRAINING, unvisited="infer", acquisition_weights="ema"), 7),
    (Entropy(), Supervised, replace(TRAINING, score=ScoreSettings(reset=False)), 0),
]


@pytest.mark.parametrize(("strategy", "algorithm", "settings", "mu"), FITTING)
def test_what_fits_together_is_no_contradiction(
    strategy: Any, algorithm: type[Algorithm], settings: RoundSettings, mu: int
) -> None:
    assert find_contradictions(strategy, make(algorithm), settings, mu) == []


def test_a_teacher_of_averaged_weights_needs_them() -> None:
    learner = FixMatch(SmallCNN(3, width=4), optimizer=functools.partial(torch.optim.SGD, lr=0.1), teacher="ema")
    assert find_contradictions(ASSL(), learner, RoundSettings(), 7) == []
    (found,) = find_contradictions(ASSL(), learner, RoundSettings(weight_ema=None), 7)
    assert str(found).startswith(
        "teacher=ema, weight_ema=None: the teacher has the averaged weights, and there are none"
    )


WRONG: list[tuple[Any, type[Algorithm], RoundSettings, int, list[str]]] = [
    (ASSL(), Supervised, RoundSettings(), 0, ["acquisition=ASSL, algorithm=Supervised: ASSL needs statistics"]),
    (
        Forgetting(),
        Supervised,
        RoundSettings(),
        0,
        ["acquisition=Forgetting, algorithm=Supervised: Forgetting needs statistics of unlabelled images, and Super"],
    ),
    (RandomSampling(), FixMatch, RoundSettings(), 0, ["mu=0, algorithm=FixMatch: mu must be at least 1"]),
    (
        BADGE(),
        FixMatch,
        TRAINING,
        7,
        [
            "acquisition_features=training, acquisition=BADGE: features of training are for strategies that need no "
            "logits, which only a pass over the pool gives, and BADGE needs them; set features to inference"
        ],
    ),
    (
        ASSLDiv(),
        Supervised,
        replace(TRAINING, unvisited="infer", acquisition_weights="ema", score=ScoreSettings(reset=False)),
        0,
        [
            "acquisition=ASSLDiv, algorithm=Supervised: ASSLDiv needs statistics",
            "acquisition_features=training, acquisition_weights=ema: features of training are those of the raw",
            "acquisition_features=training, score.reset=False: features of training are each round's own",
            "acquisition_features=training, unvisited=infer: features of samples that training never visited",
        ],
    ),
    (
        Misspelt(),
        FixMatch,
        RoundSettings(),
        7,
        [
            "acquisition=Misspelt: what Misspelt requires must be fields of Candidates, statistics, logits, features, "
            "labelled, head, answered, forgetting, view_variance, mean_probabilities, flipped_logits; got logit"
        ],
    ),
]


@pytest.mark.parametrize(("strategy", "algorithm", "settings", "mu", "begins"), WRONG)
def test_each_contradiction_is_one_line_that_begins_with_its_settings(
    strategy: Any, algorithm: type[Algorithm], settings: RoundSettings, mu: int, begins: list[str]
) -> None:
    lines = [str(each) for each in find_contradictions(strategy, make(algorithm), settings, mu)]
    assert len(lines) == len(begins)
    for line, beginning in zip(lines, begins, strict=True):
        assert line.startswith(beginning)
        assert "\n" not in line
