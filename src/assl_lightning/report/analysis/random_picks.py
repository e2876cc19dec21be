"""Predictions of images picked at random, before their labels were trained on: an accuracy without a test set."""

from __future__ import annotations

from collections.abc import Sequence

from assl_lightning.base.proportions import Proportion
from assl_lightning.base.run_files import QUERIED, round_directory
from assl_lightning.loop.class_history import read_history
from assl_lightning.loop.queried import read_queried
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.analysis.classes import present_labels
from assl_lightning.report.analysis.labelling import agreeing
from assl_lightning.report.analysis.runs import Run

_UNANSWERED = -1
_RANDOM = "assl_lightning.acquisition.RandomSampling"


def picked_at_random(run: Run, queried: int) -> int:
    """Return how many of `queried` picks of a run's strategy, the last ones, are a uniform draw from its candidates.

    All of the strategy `random`; the `random_share` of others, rounded down, as `Herding` makes them.
    """
    strategy = run.config["acquisition"].get("strategy") or {}
    if strategy.get("_target_") == _RANDOM:
        return queried
    return int(float(strategy.get("random_share") or 0) * queried)


def predicted_at_random(run: Run, record: RoundRecord) -> Proportion:
    """Count, of a round's picks that were drawn at random and answered, those that the round's model was right about.

    The model is the one that chose, with the weights of `acquisition.weights`, before it was trained on the answers.
    So the share estimates its accuracy on the images that it could pick, without bias and without a hold-out.
    """
    chosen = len(record.queried) - record.drawn_at_random  # the others, which had no score, come last
    count = picked_at_random(run, chosen)
    rows = read_queried(round_directory(run.directory, record.round) / QUERIED) if count else []
    labels = present_labels(run, record)
    if not count or not labels or len(rows) != len(record.queried):  # the file is not there any more
        return Proportion(0, 0)
    history = read_history(run.directory)
    present = None if history is None else history.present_labels(record.round)
    answered = zip(rows[chosen - count : chosen], labels[chosen - count : chosen], strict=True)
    return agreeing([_is_right(row.get("prediction"), label, present) for row, label in answered])


def _is_right(prediction: str | None, label: int, present: Sequence[int | None] | None) -> bool | None:
    """Compare a prediction, a class of its round, with the label, a present class; None where one is not known."""
    if not prediction or label == _UNANSWERED:
        return None
    predicted = int(prediction) if present is None else present[int(prediction)]
    return None if predicted is None else predicted == label


def added(parts: Sequence[Proportion]) -> Proportion:
    """Add up the counts of several rounds or runs."""
    return Proportion(sum(part.successes for part in parts), sum(part.count for part in parts))
