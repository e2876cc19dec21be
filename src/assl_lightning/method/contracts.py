"""Types of the data that the parts exchange, with a shape beside every field.

Symbols: B labelled rows of a batch, Bu unlabelled rows, C classes, d features, N samples in the pool. An *index* is
always a sample's position in the pool, 0 ≤ index < N: the only index space of the whole package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor


class Batch(TypedDict):
    """Input of a training step, from `PoolDataModule`. Images are normalised float32 on the training device."""

    step: int  # position of this batch in the round, counted from 0
    ends_pass: bool  # this batch completes a pass over the labelled samples
    labelled_index: Tensor  # (B,) int64
    labelled_image: Tensor  # (B, channels, height, width)
    label: Tensor  # (B,) int64 in [0, C)
    index: Tensor  # (Bu,) int64; Bu = 0 where the algorithm uses no unlabelled images
    weak: Tensor  # (Bu, channels, height, width)
    strong: Tensor  # (Bu, channels, height, width)


class EvaluationBatch(TypedDict):
    """Input of an evaluation step, from `PoolDataModule`."""

    image: Tensor  # (B, channels, height, width) normalised, not augmented
    label: Tensor  # (B,) int64


class StepOutput(TypedDict, total=False):
    """Output of an algorithm's `training_step`; `ASSLScoreCallback` needs only `index` and the logits."""

    loss: Tensor  # () with gradient
    index: Tensor  # (Bu,) int64
    logits_weak: Tensor  # (Bu, C) detached
    logits_strong: Tensor  # (Bu, C) detached
    features_weak: Tensor  # (Bu, d) detached; optional
    labelled_index: Tensor  # (B,) int64; optional, with the next one
    features_labelled: Tensor  # (B, d) detached; optional


@dataclass(frozen=True)
class Observation:
    """Two numbers for each observed sample, from any model and task; larger means label sooner.

    >>> import torch
    >>> Observation(index=torch.tensor([7]), uncertainty=torch.tensor([0.4]), inconsistency=torch.tensor([1.2])).index
    tensor([7])
    """

    index: Tensor  # (B,) int64
    uncertainty: Tensor  # (B,)
    inconsistency: Tensor  # (B,)
    features: Tensor | None = None  # (B, d)
    labelled_index: Tensor | None = None  # (L,) int64, labelled samples of the same batch
    labelled_features: Tensor | None = None  # (L, d)
