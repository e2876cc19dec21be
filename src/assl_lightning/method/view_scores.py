"""From the predictions of two views of a batch to an `Observation`, with checks of the first batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from assl_lightning.method import scores
from assl_lightning.method.contracts import Observation
from assl_lightning.method.fused_scores import fused_scores


@dataclass(frozen=True)
class Views:
    """Predictions of the scored rows of a batch: logits, or probabilities, of one or two views."""

    index: Tensor  # (B,) int64
    weak: Tensor  # (B, C); in a dense task with further axes
    strong: Tensor | None = None  # the same shape; None: there is one view, and no inconsistency
    features: Tensor | None = None  # (B, d) of the weak view
    labelled_index: Tensor | None = None  # (L,) int64
    labelled_features: Tensor | None = None  # (L, d)

    def with_predictions(self, weak: Tensor, strong: Tensor | None) -> Views:
        """Return the same rows with other predictions."""
        return replace(self, weak=weak, strong=strong)


def observe_views(views: Views) -> Observation:
    """Return Eq. 1 of the weak views, and Eq. 4 of both, of Lim et al. 2023; with one view no inconsistency.

    `weak` and `strong` are logits (B, C).
    """
    fused = fused_scores(views.weak, views.strong)
    if fused is not None:
        return to_observation(views, *fused)
    uncertainty = scores.pseudo_el2n(views.weak)
    inconsistency = None if views.strong is None else scores.symmetric_kl(views.weak, views.strong)
    return to_observation(views, uncertainty, inconsistency)


def to_observation(views: Views, uncertainty: Tensor, inconsistency: Tensor | None) -> Observation:
    """Return two numbers for each row (B,), beside the rows' index, features and logits."""
    return Observation(
        views.index,
        uncertainty,
        inconsistency,
        views.features,
        views.labelled_index,
        views.labelled_features,
        views.weak,
        views.strong,
    )


def as_logits(probabilities: Tensor) -> Tensor:
    """Return logarithms of probabilities, whose softmax they are; a probability of 0 counts as the smallest number."""
    wide = probabilities if probabilities.dtype == torch.float64 else probabilities.float()
    return wide.clamp_min(torch.finfo(wide.dtype).tiny).log()


def check_kind(name: str, values: Tensor, *, from_probabilities: bool, dim: int = -1) -> None:
    """Raise unless `values` are what they are said to be, logits or probabilities, along `dim`; waits for the device.

    Logits are refused where every row looks like probabilities: all in [0, 1], with the sum 1.
    """
    if not len(values) or not values.is_floating_point() or values.shape[dim] < 2:
        return
    wide = values.detach().double() if values.device.type != "mps" else values.detach().float()
    tolerance = 1e-3 if values.dtype in (torch.float32, torch.float64) else 3e-2
    in_range = bool(((wide >= 0) & (wide <= 1)).all())
    are_probabilities = in_range and bool(((wide.sum(dim) - 1).abs() < tolerance).all())
    if are_probabilities and not from_probabilities:
        raise ValueError(
            f"'{name}' must be logits, the network's output before softmax; every row of the first batch lies in "
            f"[0, 1] and sums to 1, as probabilities do. Return the logits, or say so: "
            f"observe=assl_lightning.observe.keys(from_probabilities=True), or the same argument of another maker"
        )
    if from_probabilities and not are_probabilities:
        raise ValueError(
            f"'{name}' should be probabilities, as from_probabilities=True says: in [0, 1], with the sum 1 over the "
            f"classes; in the first batch they lie in [{float(wide.min()):.3g}, {float(wide.max()):.3g}] and sum to "
            f"{float(wide.sum(dim).flatten()[0]):.3g}. Leave from_probabilities out for logits"
        )
