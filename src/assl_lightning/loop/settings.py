"""What a run does, round by round: the settings of `run_rounds`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from assl_lightning.base.arguments import require_one_of, whole_number
from assl_lightning.learning.checkpointing import StepCheckpoints
from assl_lightning.learning.non_finite import OnNonFinite
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.loop.querying import Unvisited
from assl_lightning.method.callback import ASSLScoreCallback
from assl_lightning.method.statistics import Variance

Init = Literal["rand", "continue"]
Weights = Literal["raw", "ema"]
Features = Literal["inference", "training"]
InitialAcquisition = Literal["random", "kmeans_plus_plus"]


@dataclass(frozen=True)
class ScoreSettings:
    """Constants of Eq. 3–6, and whether the statistics start afresh each round; see `ASSLScoreCallback`."""

    alpha: float = 0.8
    c_u: float = 0.5
    c_i: float = 2.0
    variance: Variance = "post"
    reset: bool = True

    def __post_init__(self) -> None:
        made = ASSLScoreCallback(
            1, self.alpha, self.c_u, self.c_i, variance=self.variance
        )  # raises for what it refuses
        for name in ("alpha", "c_u", "c_i"):
            object.__setattr__(self, name, getattr(made, name))


@dataclass(frozen=True)
class CheckpointSettings:
    """How often a training is saved from within, in optimizer steps and in seconds; see `StepCheckpoints`."""

    every_n_steps: int | None = None
    every_n_seconds: float | None = 300.0

    def __post_init__(self) -> None:
        made = StepCheckpoints(lambda step: Path(str(step)), **asdict(self))  # raises for what it would refuse
        for name in ("every_n_steps", "every_n_seconds"):
            object.__setattr__(self, name, getattr(made, name))


@dataclass(frozen=True)
class RoundSettings:
    """What a run does.

    Attributes:
        seed: of every draw.
        rounds: acquisitions, ≥ 0; trainings are one more.
        initial_labels: asked for before the first training, beside those that are known beforehand.
        initial_acquisition: which these are: "random", or "kmeans_plus_plus" over the untrained network's features.
        hold_out: samples that are drawn uniformly from the pool before the first training, labelled with the initial
            ones, and make up the test set: no training and no acquisition sees them. 0: the data have a test set.
        labels_per_round: K, asked for after each training but the last.
        steps_per_round: optimizer steps of a training.
        steps_per_epoch: a test follows every so many steps; None: once a round.
        init: "rand" restores the same initial weights each round, "continue" goes on from the last round's.
        continue_from: which of the last round's weights "continue" takes, "raw" or "ema".
        score: constants of the statistics.
        unvisited: what becomes of unlabelled samples that training never visited; see `querying.query`.
        acquisition_weights: which weights make the logits and features that an acquisition may need.
        acquisition_features: where its features come from: "inference", a pass over the pool, or "training", the latest
            weak views', which the callback then keeps on the device.
        weight_ema: decay of the averaged weights that are tested; None: the raw weights alone.
        non_finite: what becomes of a step whose loss or gradients are not finite: "stop" ends the run with the step and
            its samples, "skip" leaves the weights as they were and counts it; see `NonFinite`.
        checkpoint: how often a training is saved from within.
        change_devices: go on with other devices than the run had so far, which is else refused.
        config: whatever else tells this run from another; joins these settings in config.yaml, which a run that goes
            on is compared with.
    """

    seed: int = 0
    rounds: int = 10
    initial_labels: int = 100
    initial_acquisition: InitialAcquisition = "random"
    hold_out: int = 0
    labels_per_round: int = 100
    steps_per_round: int = 5120
    steps_per_epoch: int | None = None
    init: Init = "rand"
    continue_from: Weights = "raw"
    score: ScoreSettings = field(default_factory=ScoreSettings)
    unvisited: Unvisited = "exclude"
    acquisition_weights: Weights = "raw"
    acquisition_features: Features = "inference"
    weight_ema: float | None = 0.999
    non_finite: OnNonFinite = "stop"
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    change_devices: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", None),
            ("rounds", 0),
            ("initial_labels", 0),
            ("hold_out", 0),
            ("labels_per_round", 1),
            ("steps_per_round", 1),
            ("steps_per_epoch", 1),
        ):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        require_one_of("init", self.init, Init)
        require_one_of("continue_from", self.continue_from, Weights)
        require_one_of("initial_acquisition", self.initial_acquisition, InitialAcquisition)
        require_one_of("unvisited", self.unvisited, Unvisited)
        require_one_of("acquisition_weights", self.acquisition_weights, Weights)
        require_one_of("acquisition_features", self.acquisition_features, Features)
        require_one_of("non_finite", self.non_finite, OnNonFinite)
        if self.weight_ema is not None:
            object.__setattr__(self, "weight_ema", WeightEMA(self.weight_ema).decay)  # raises for what it refuses
        for name in ("acquisition_weights", "continue_from"):
            if getattr(self, name) == "ema" and self.weight_ema is None:
                raise ValueError(f"{name} = 'ema' needs averaged weights; set weight_ema, such as 0.999")

    @property
    def total_labels(self) -> int:
        """Labels that the run asks for: those that the last round trains on, and those of the hold-out."""
        return self.hold_out + self.initial_labels + self.rounds * self.labels_per_round
