"""Calibration of a classifier's confidence by one number, the temperature.

Guo et al. 2017, "On Calibration of Modern Neural Networks", §4.2.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

_LARGEST = 3.0  # of |log T|


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T in [e⁻³, e³] at which softmax(logits / T) says best how often it is right.

    It minimises the sum over the images of −log softmax(logits / T)[label], plus (log T)² / 2: a normal prior on log T
    around 0, without which a few images that are all predicted rightly would make every confidence 1.

    Args:
        logits: (M, C) float, of images that were not trained on.
        labels: (M,) int64 in [0, C).

    Raises:
        ValueError: there is no image.
    """
    if not len(labels):
        raise ValueError("a temperature needs at least one labelled image that was not trained on; got none")
    values = logits.double()

    def loss(log_temperature: float) -> float:
        nll = torch.nn.functional.cross_entropy(values / float(np.exp(log_temperature)), labels, reduction="sum")
        return float(nll) + log_temperature**2 / 2

    found = minimize_scalar(loss, bounds=(-_LARGEST, _LARGEST), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
