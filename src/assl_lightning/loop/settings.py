"""The settings of a run, with their ranges and the rules between them; nothing here imports torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from assl_lightning.base.rules import at_least, check_fields
from assl_lightning.learning.settings import CheckpointSettings, Decay, OnNonFinite, Steps, Weights
from assl_lightning.loop.budget import Batches, Schedule, labels_after, labels_between
from assl_lightning.method.settings import ScoreSettings

Init = Literal["rand", "continue"]
Features = Literal["inference", "training"]
InitialAcquisition = Literal["random", "kmeans_plus_plus", "herding", "typiclust"]
InitialFeatures = Literal["auto", "network", "pixels"]
Unvisited = Literal["exclude", "infer", "random"]

KEYS: Mapping[str, str] = {
    "unvisited": "acquisition.unvisited",
    "acquisition_weights": "acquisition.weights",
    "acquisition_features": "acquisition.features",
    "weight_ema": "algorithm.weight_ema",
}
"""Settings whose key in a configuration is not their name."""


@dataclass(frozen=True)
class Contradiction:
    """Settings that do not fit one another.

    Attributes:
        settings: values by name, of `RoundSettings` and of the datamodule; "acquisition" and "algorithm" name classes.
        reason: why they do not fit, and what to do.
    """

    settings: Mapping[str, object]
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(f'{name}={value}' for name, value in self.settings.items())}: {self.reason}"


@dataclass(frozen=True)
class RoundSettings:
    """Settings of a run.

    Attributes:
        seed: of every draw, ≥ 0.
        rounds: acquisitions; trainings are one more.
        initial_labels: asked for before the first training, beside those that are known beforehand.
        initial_acquisition: which these are: "random", or the picks of a strategy that needs features alone, see
            `first_query`.
        initial_features: what such a strategy looks at: the features of the "network" before the first round, which are
            those of its warm-up where there is one, or principal components of the "pixels"; "auto": the network where
            there is a warm-up, else the pixels.
        hold_out: samples that are drawn uniformly from the pool before the first training, labelled with the initial
            ones, and make up the test set: no training and no acquisition sees them. 0: the data have a test set.
        labels_per_round: K, asked for after each training but the last; or a list with a number for each, of which the
            last one holds for all further rounds.
        schedule: "geometric": each batch is twice the one before, and `labels_per_round` the first; None: as
            `labels_per_round` says.
        steps_per_round: optimizer steps of a training.
        steps_per_epoch: a test follows every so many steps; None: once a round.
        init: "rand" restores the same initial weights each round, "continue" goes on from the last round's.
        continue_from: which of the last round's weights "continue" takes, "raw" or "ema".
        score: constants of the statistics.
        unvisited: what becomes of unlabelled samples that training never visited; see `querying.query`.
        acquisition_weights: which weights make the logits and features that an acquisition may need.
        acquisition_features: where its features come from: "inference", a pass over the pool, or "training", the latest
            weak views', also of labelled samples, which the callback then keeps on the device; for strategies that
            need no logits.
        weight_ema: decay of the averaged weights that are tested; None: the raw weights alone.
        non_finite: what becomes of a step whose loss or gradients are not finite: "stop" ends the run with the step and
            its samples, "skip" leaves the weights as they were and counts it; see `NonFinite`.
        repeat_round: a round that is trained twice on the same labels, so that the agreement of two such trainings is
            known beside that of successive rounds; None: none is.
        checkpoint: how often a training is saved from within.
        change_devices: go on with other devices than the run had so far, which is else refused.
        config: further settings that distinguish this run from others. They are written to config.yaml with these, and
            a run that goes on must have the same.
    """

    seed: Annotated[int, at_least(0)] = 0
    rounds: Annotated[int, at_least(0)] = 10
    initial_labels: Annotated[int, at_least(0)] = 100
    initial_acquisition: InitialAcquisition = "random"
    initial_features: InitialFeatures = "network"
    hold_out: Annotated[int, at_least(0)] = 0
    labels_per_round: Batches = 100
    schedule: Schedule | None = None
    steps_per_round: Steps = 5120
    steps_per_epoch: Steps | None = None
    init: Init = "rand"
    continue_from: Weights = "raw"
    score: ScoreSettings = field(default_factory=ScoreSettings)
    unvisited: Unvisited = "exclude"
    acquisition_weights: Weights = "raw"
    acquisition_features: Features = "inference"
    weight_ema: Decay | None = 0.999
    non_finite: OnNonFinite = "stop"
    repeat_round: Annotated[int, at_least(0)] | None = None
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    change_devices: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def first_labels(self) -> int:
        """Labels that are asked for before the first training: the initial ones, and those of the hold-out."""
        return self.hold_out + self.initial_labels

    @property
    def total_labels(self) -> int:
        """Labels that the run asks for: those that the last round trains on, and those of the hold-out."""
        return self.first_labels + self.labels_between(0, self.rounds)

    def labels_after(self, number: int) -> int:
        """Labels that are asked for after the training of round `number`."""
        return labels_after(self.labels_per_round, self.schedule, number)

    def labels_between(self, first: int, end: int) -> int:
        """Labels that are asked for after the trainings of the rounds `first` to `end` − 1."""
        return labels_between(self.labels_per_round, self.schedule, first, end)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of config.yaml: each setting under its key, and `config`."""
        own = asdict(self)
        config = own.pop("config")
        return in_groups({**own, **config})

    def find_contradictions(self) -> list[Contradiction]:
        """Return every contradiction among the settings themselves."""
        found = [
            Contradiction(
                {name: "ema", "weight_ema": None},
                "averaged weights need weight_ema, the decay of their average, such as 0.999; or take the raw weights",
            )
            for name in ("acquisition_weights", "continue_from")
            if getattr(self, name) == "ema" and self.weight_ema is None
        ]
        if self.schedule is not None and not isinstance(self.labels_per_round, int):
            found.append(
                Contradiction(
                    {"schedule": self.schedule, "labels_per_round": self.labels_per_round},
                    "a schedule grows from one number, and a list says each; leave one of them out",
                )
            )
        return found

    def find_shortage(self, num_images: int, pool: str = "the pool", because: str = "") -> list[Contradiction]:
        """Return a contradiction where the run asks for more labels than a pool has images.

        Args:
            num_images: that can be asked for.
            pool: in words, for the message.
            because: the reason why the pool has so many, for the message.
        """
        if self.total_labels <= num_images:
            return []
        why = f" ({because})" if because else ""
        at_first = {"hold_out": self.hold_out} if self.hold_out else {}
        at_first |= {"initial_labels": self.initial_labels}
        if not num_images:
            return [Contradiction(at_first, f"there is no image to label in {pool}{why}")]
        if self.first_labels > num_images:  # fewer rounds do not help
            together = " together" if self.hold_out else ""
            return [Contradiction(at_first, f"must be at most {num_images}{together}, the images in {pool}{why}")]
        left = num_images - self.first_labels
        most = range(min(self.rounds, left + 2))  # a round asks for one label or more
        possible = bisect_right(most, left, key=lambda rounds: self.labels_between(0, rounds)) - 1
        is_one = isinstance(self.labels_per_round, int) and self.schedule is None
        schedule = {"schedule": self.schedule} if self.schedule else {}
        asked = "rounds × labels_per_round" if is_one else f"what {self.rounds} rounds ask for"
        return [
            Contradiction(
                {"rounds": self.rounds, "labels_per_round": self.labels_per_round, **schedule, **at_first},
                f"{' + '.join(at_first)} + {asked} = {self.total_labels} labels, but {pool} has "
                f"{num_images} images{why}; lower one of them, for example rounds={possible}",
            )
        ]


def in_groups(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose settings stand under their `KEYS`, where earlier versions had them at the top, too.

    >>> in_groups({"weight_ema": 0.9, "algorithm": {"name": "fixmatch"}})
    {'algorithm': {'weight_ema': 0.9, 'name': 'fixmatch'}}
    """
    result = dict(content)
    for name, key in KEYS.items():
        group, _, last = key.partition(".")
        inside = result.get(group, {})
        if name in result and isinstance(inside, Mapping):
            result[group] = {last: result.pop(name), **inside}
    return result
