"""Uncertainty herding: cover the pool, weighed by the calibrated margin of one pass.

Bae, Lu, Rosenfeld and Sutherland 2025, "Uncertainty Herding: One Active Learning Method for All Label Budgets", ICLR,
arXiv 2412.20644.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from assl_lightning.base.rules import at_least, checked
from assl_lightning.base.ties import to_float64
from assl_lightning.method.candidates import Candidates, LabelledSamples, Requirement, Selection
from assl_lightning.method.scores import margin
from assl_lightning.method.sketch import labelled_vectors, sketch
from assl_lightning.method.top_k import check_finite

_TEMPERATURES = tuple(tenths / 10 for tenths in range(10, 201))  # 1.0, 1.1, …, 20.0
_TRAINED = 0.7  # share of the labelled samples that a classifier is trained on, to calibrate on the others
_BINS = 15


@final
@dataclass(frozen=True)
class UncertaintyHerding:
    """Pick, again and again, the sample s with the largest Σ_x u_x · max(0, k(x, s) − covered_x).

    u_x is 1 less the margin between the two most probable classes, at a temperature of 1.0 to 20.0 with the least
    expected calibration error; k(x, s) = exp(−‖x − s‖² / σ²) of unit features, and σ is the smallest distance between
    two labelled samples that differ. Without a label every u_x is 1; with fewer than two, σ is 1.

    The paper calibrates a network that it trains again on 70 % of the labelled samples. Here the last layer alone is
    trained again, as a logistic regression on the features; where the part has fewer than two classes, the temperature
    is 1.

    Args:
        max_candidates: ≥ 1. Of more candidates so many are drawn, which then stand for all.
    """

    max_candidates: int = 8192
    requires: ClassVar[frozenset[Requirement]] = frozenset({"features", "labelled", "logits"})

    def __post_init__(self) -> None:
        checked("max_candidates", self.max_candidates, Annotated[int, at_least(1)])

    def acquire(self, candidates: Candidates, budget: int, generator: torch.Generator) -> Selection:
        """Select in the order of the picks, without scores: what a candidate is worth depends on earlier picks.

        A logit or a feature that is not finite is an error that names the sample.
        """
        logits = to_float64(candidates.require("logits"))
        pool = sketch(candidates, budget, self.max_candidates, generator)
        centres, labelled = labelled_vectors(candidates), candidates.require("labelled")
        weight = torch.ones(len(pool.targets), dtype=torch.float64, device=pool.targets.device)
        if len(centres):
            temperature = find_temperature(centres, labelled, generator)
            of_targets = logits[pool.target_position.to(logits.device)].to(weight.device)
            weight = 1 + margin(of_targets / temperature)
            check_finite("margin", weight, pool.target_index)
        return Selection(pool.cover(centres, weight, smallest_distance(centres), budget))


def smallest_distance(points: Tensor) -> float:
    """Return the smallest distance > 0 between two of the points (L, d) float64; 1 where no two differ."""
    smallest = math.inf
    for row in range(1, len(points)):
        distance = torch.linalg.vector_norm(points[:row] - points[row], dim=1)
        apart = distance[distance > _SAME]
        smallest = min(smallest, float(apart.min())) if len(apart) else smallest
    return smallest if math.isfinite(smallest) else 1.0


_SAME = 1e-6  # unit vectors that are nearer are copies, up to the rounding of float32 features


def find_temperature(points: Tensor, labelled: LabelledSamples, generator: torch.Generator) -> float:
    """Return the temperature, of 1.0, 1.1, …, 20.0, with the least calibration error on 30 % of the labelled samples.

    A logistic regression on the other 70 % makes the predictions. Of equal errors the lowest temperature.

    Args:
        points: (L, d) float64, features of the labelled samples.
        generator: draws the parts.
    """
    order = torch.argsort(labelled.index)[torch.randperm(len(points), generator=generator)]
    cut = int(_TRAINED * len(order))
    vectors, labels = points.cpu().numpy(), labelled.labels.cpu().numpy()
    trained, kept = order[:cut].numpy(), order[cut:].numpy()
    if len(np.unique(labels[trained])) < 2 or not len(kept):
        return 1.0
    classifier = LogisticRegression(max_iter=1000).fit(vectors[trained], labels[trained])
    decision = classifier.decision_function(vectors[kept])
    logits = np.stack([np.zeros_like(decision), decision], 1) if decision.ndim == 1 else decision
    right = classifier.classes_[logits.argmax(1)] == labels[kept]
    errors = [round(calibration_error(logits / temperature, right), 6) for temperature in _TEMPERATURES]
    return _TEMPERATURES[int(np.argmin(errors))]


def calibration_error(logits: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error with 15 bins of confidence, in [0, 1] (Guo et al. 2017, Eq. 3).

    Args:
        logits: (n, C).
        right: (n,), whether the largest logit is that of the true class.
    """
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    confidence = 1 / shifted.sum(1)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float((right[bins == b] - confidence[bins == b]).sum())) for b in np.unique(bins)]
    return sum(gaps) / len(right)
