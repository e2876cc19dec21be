"""Types of the data that the parts exchange, with a shape beside every field.

Symbols: B labelled rows of a batch, Bu unlabelled rows, C classes, d features, N samples in the pool. An *index* is
always a sample's position in the pool, 0 ≤ index < N: the only index space of the whole package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, runtime_checkable

from torch import Tensor, nn


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
    position: Tensor  # (B,) int64, in the test set or among the held-out samples; −1 pads a batch


class StepOutput(TypedDict, total=False):
    """Output of an algorithm's `training_step`; `ASSLScoreCallback` needs only `index` and the logits."""

    loss: Tensor  # () with gradient
    index: Tensor  # (Bu,) int64
    logits_weak: Tensor  # (Bu, C) detached
    logits_strong: Tensor  # (Bu, C) detached
    features_weak: Tensor  # (Bu, d) detached; optional
    labelled_index: Tensor  # (B,) int64; optional, with the next one
    features_labelled: Tensor  # (B, d) detached; optional


@runtime_checkable
class Replayable(Protocol):
    """A callback whose part of a step is operations on tensors, written in place, so that a graph may replay it.

    Its `on_train_batch_end` leaves that part out where `is_replayed`, and does the rest.
    """

    is_replayed: bool

    def can_be_replayed(self) -> bool:
        """Return if that is so in this fit, as it is now; asked after the first steps."""

    def step_on_device(self, trainer: Any, module: Any, outputs: Any) -> None:
        """Do that part, with what `training_step` returned, and with the weights after the step."""


@dataclass(frozen=True)
class Observation:
    """Two numbers for each observed sample, from any model and task; larger means label sooner.

    Without a second view there is an uncertainty alone; it counts as an inconsistency of 0.

    >>> import torch
    >>> Observation(index=torch.tensor([7]), uncertainty=torch.tensor([0.4]), inconsistency=torch.tensor([1.2])).index
    tensor([7])
    """

    index: Tensor  # (B,) int64
    uncertainty: Tensor  # (B,)
    inconsistency: Tensor | None  # (B,)
    features: Tensor | None = None  # (B, d)
    labelled_index: Tensor | None = None  # (L,) int64, labelled samples of the same batch
    labelled_features: Tensor | None = None  # (L, d)
    logits_weak: Tensor | None = None  # (B, C), of which further statistics are made
    logits_strong: Tensor | None = None  # (B, C)
    further: Tensor | None = None  # (B, W), which the callback makes of the logits


@dataclass(frozen=True)
class TrainingStep:
    """A training batch that has just been trained on, as an observer sees it."""

    outputs: Any  # what `training_step` returned
    batch: Any  # as the module saw it, without the index
    module: nn.Module  # the LightningModule
    indices: Mapping[str, Tensor] = field(default_factory=dict)  # stream → (B,) int64, of each `IndexedDataset`
    is_first: bool = False  # no step was observed before: checks may wait for the device
    number: int = 0  # batches that were trained on before this one, also before a fit went on from a checkpoint

    def index_of(self, stream: str | None) -> Tensor | None:
        """Return the index (B,) of a stream; of the only one if `stream` is None.

        A stream's name is "" for a single loader, else the loader's key, or its position, among the trainer's loaders.

        Raises:
            KeyError: there is no such stream, or there are several and none is named.
        """
        if stream is not None:
            if stream not in self.indices:
                raise KeyError(
                    f"stream={stream!r} must name a loader whose data set is an IndexedDataset; there are: "
                    f"{_listed(self.indices)}"
                )
            return self.indices[stream]
        if len(self.indices) > 1:
            named = next((name for name in ("unlabelled", "unlabeled") if name in self.indices), None)
            if named is None:
                raise KeyError(
                    f"several loaders have an IndexedDataset: {_listed(self.indices)}; name the one whose samples are "
                    f"to be scored, with stream=…"
                )
            return self.indices[named]
        return next(iter(self.indices.values()), None)


def _listed(names: Mapping[str, Tensor]) -> str:
    return ", ".join(repr(name) for name in names) or "none"
