"""The settings of one training, with their ranges; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from assl_lightning.base.rules import BELOW_ONE, SHARE, above, at_least, check_fields, count_from

Steps = Annotated[int, count_from(1)]
BatchSize = Annotated[int, count_from(1)]
PairBatchSize = Annotated[int, count_from(2)]
"""Images of a step that compares their views with one another."""

Width = Annotated[int, count_from(1)]
"""Outputs of a layer."""

Mu = Annotated[int, count_from(0)]
"""Unlabelled images of a step for each labelled one."""

Passes = Annotated[int, at_least(1)]
NumWorkers = Annotated[int, at_least(0)]
LabelledView = Literal["weak", "plain"]
LabelledStream = Literal["tiled", "passes"]

Decay = Annotated[float, BELOW_ONE]
"""Weight of the old average of the weights."""

Weights = Literal["raw", "ema"]
"""The weights as trained, or their average."""

TeacherWeights = Literal["student", "ema"]
"""Whose predictions are the pseudo-labels: those of the weights that are trained, or of their average."""

OnNonFinite = Literal["stop", "skip"]

MatmulPrecision = Literal["highest", "high", "medium"]
"""Of products of float32 matrices, as `torch.set_float32_matmul_precision` takes it."""

Threshold = Annotated[float, above(0)]
Temperature = Annotated[float, above(0)]
LossWeight = Annotated[float, at_least(0)]
NumSigma = Annotated[float, above(0)]
MostConfident = Annotated[float, SHARE]
"""A bound of a probability from above."""

WeightDecay = Annotated[float, at_least(0)]
WeightDecayExempt = Literal["by_module", "by_name"]
TrainAccuracy = Annotated[float, SHARE]

ALGORITHM_ARGUMENTS: Mapping[str, Any] = {
    "threshold": Threshold,
    "temperature": Temperature,
    "lambda_u": LossWeight,
    "n_sigma": NumSigma,
    "fairness": LossWeight,
    "max_threshold": MostConfident,
    "momentum": Decay,
    "momentum_warm_up": bool,
    "weight_decay": WeightDecay,
    "weight_decay_exempt": WeightDecayExempt,
    "balanced_head": bool,
    "teacher": TeacherWeights,
    "stop_at_train_accuracy": TrainAccuracy | None,
    "optimizer.lr": Annotated[float, above(0)],
    "optimizer.momentum": Annotated[float, BELOW_ONE],
}
"""Arguments that mean the same in every learning algorithm, by name, with their types."""

WARM_UP_ARGUMENTS: Mapping[str, Any] = {
    "steps": Steps,
    "batch_size": PairBatchSize,
    "temperature": Temperature,
    "hidden_width": Width,
    "projection_width": Width,
    "weight_decay": WeightDecay,
    **{name: hint for name, hint in ALGORITHM_ARGUMENTS.items() if name.startswith("optimizer.")},
}
"""The same for the training before the first label."""


@dataclass(frozen=True)
class CheckpointSettings:
    """Intervals between the checkpoints within a training, from which it goes on after a stop; see `StepCheckpoints`.

    Attributes:
        every_n_steps: optimizer steps between two checkpoints; None: none by the number of steps.
        every_n_seconds: seconds between two; None: none by the time.
    """

    every_n_steps: Steps | None = None
    every_n_seconds: Annotated[float, above(0)] | None = 300.0

    def __post_init__(self) -> None:
        check_fields(self)
