"""Contradictions between what a strategy requires, what an algorithm produces and what the settings say.

`run_rounds` raises for the first one before it trains; the command line shows all, under its own keys, before it writes
a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.loop.settings import Contradiction, RoundSettings
from assl_lightning.method.candidates import Acquisition, Requirement
from assl_lightning.method.settings import FURTHER
from assl_lightning.stopping.rules import StopRule

OF_TRAINING: frozenset[Requirement] = frozenset({"statistics", *FURTHER})
"""What strategies require that only a training with unlabelled images leaves, of the samples that it visited."""


def find_contradictions(
    acquisition: Acquisition, algorithm: Algorithm, settings: RoundSettings, mu: int, stop: StopRule | None = None
) -> list[Contradiction]:
    """Return every contradiction; `mu` is the number of unlabelled images for each labelled one of a step."""
    strategy, learner = type(acquisition).__name__, type(algorithm).__name__
    required, fields = acquisition.requires, get_args(Requirement)
    keeps_statistics, needs_statistics = "statistics" in algorithm.produces, bool(OF_TRAINING & required)
    of_training = settings.acquisition_features == "training" and "features" in required
    training = {"acquisition_features": "training"}
    rules: tuple[tuple[bool, Mapping[str, object], str], ...] = (
        (
            not required <= set(fields),
            {"acquisition": strategy},
            f"what {strategy} requires must be fields of Candidates, {', '.join(fields)}; got "
            f"{', '.join(sorted(required - set(fields)))}",
        ),
        (
            needs_statistics and not keeps_statistics,
            {"acquisition": strategy, "algorithm": learner},
            f"{strategy} needs statistics of unlabelled images, and {learner} keeps none; choose FixMatch, or an "
            f"acquisition without them, such as random",
        ),
        (
            keeps_statistics and mu == 0,
            {"mu": mu, "algorithm": learner},
            f"mu must be at least 1, since {learner} keeps statistics of unlabelled images; to learn from labelled "
            f"images alone, choose Supervised",
        ),
        (
            stop is not None and stop.needs_agreement and not keeps_statistics,
            {"stop": type(stop).__name__, "algorithm": learner},
            f"this rule compares predictions of unlabelled images, and {learner} looks at none in training; choose "
            f"FixMatch, or another rule, such as plateau",
        ),
        (
            algorithm.needs_weight_ema and settings.weight_ema is None,
            {"teacher": "ema", "weight_ema": None},
            "the teacher has the averaged weights, and there are none; give a decay below 1, or set teacher to student",
        ),
        (
            of_training and "logits" in required,
            training | {"acquisition": strategy},
            f"features of training are for strategies that need no logits, which only a pass over the pool gives, and "
            f"{strategy} needs them; set features to inference",
        ),
        (
            of_training and not keeps_statistics and not needs_statistics,  # which has a line of its own
            training | {"algorithm": learner},
            f"features of training need an algorithm that looks at unlabelled images, and {learner} keeps nothing of "
            f"them; choose FixMatch, or set features to inference",
        ),
        (
            of_training and settings.acquisition_weights == "ema",
            training | {"acquisition_weights": "ema"},
            "features of training are those of the raw weights; set weights to raw, or features to inference",
        ),
        (
            of_training and not settings.score.reset,
            training | {"score.reset": False},
            "features of training are each round's own, but with statistics that go on a sample may count as visited "
            "that this round never saw; set reset to true, or features to inference",
        ),
        (
            of_training and settings.unvisited == "infer",
            training | {"unvisited": "infer"},
            "features of samples that training never visited are not inferred; set unvisited to exclude or random, or "
            "features to inference",
        ),
    )
    return [Contradiction(values, reason) for is_wrong, values, reason in rules if is_wrong]
