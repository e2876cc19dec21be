"""The accuracy of a round's network by its own picks, from the files of a run; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assl_lightning.base.run_files import QUERIED, round_directory
from assl_lightning.loop.class_history import present_answers, read_history
from assl_lightning.loop.queried import read_queried
from assl_lightning.loop.records import RoundRecord
from assl_lightning.stopping.picked_accuracy import PickedAccuracy, lure_weights

_UNANSWERED = -1
_RANDOM = "assl_lightning.acquisition.RandomSampling"
_OF_THIS_PACKAGE = "assl_lightning."


def picked_accuracy(run_dir: Path, config: Mapping[str, Any], record: RoundRecord) -> PickedAccuracy | None:
    """Compare the predictions of a round's picks with the answers; None if they allow no estimate for other samples.

    The predictions are those of the network that chose, with the weights of `acquisition.weights`, before it was
    trained on the answers. So they estimate its accuracy on the samples that the strategy could pick, without a
    hold-out. All picks count if the record has the probability of each, otherwise those that were drawn uniformly.

    Args:
        run_dir: the directory of the run.
        config: of the run, plain.
        record: of a round whose picks are answered.

    Raises:
        ValueError: a file of the run is damaged.
    """
    chosen = len(record.queried) - record.drawn_at_random  # the others, which had no score, come last
    count = len(record.pick_probabilities) or picked_at_random(config, chosen)
    path = round_directory(run_dir, record.round) / QUERIED
    rows = read_queried(path) if count else []
    if not count or not record.queried_labels or len(rows) != len(record.queried):  # the file was removed
        return None
    history = read_history(run_dir)
    present = None if history is None else history.present_labels(record.round)
    answered = zip(rows, present_answers(history, record), strict=True)
    try:
        wrong = [_is_wrong(row.get("prediction"), label, present) for row, label in answered]
    except (ValueError, IndexError):
        raise ValueError(f"{path} must have the number of a class as each prediction; restore or remove it") from None
    known = record.candidates is not None and record.pick_probabilities
    weights = lure_weights(record.pick_probabilities, record.candidates or 0) if known else (1.0,) * count
    found = PickedAccuracy(weights, tuple(wrong[chosen - count : chosen]))
    return found if found.n else None


def picked_at_random(config: Mapping[str, Any], queried: int) -> int:
    """Return how many of `queried` picks of a run's strategy, the last ones, are a uniform draw from its candidates.

    All of the strategy `random`; the `random_share` of others of this package, rounded down, as `Herding` makes them. A
    strategy from elsewhere may mean something else by such an argument.
    """
    acquisition = config.get("acquisition")
    strategy = (acquisition.get("strategy") if isinstance(acquisition, Mapping) else None) or {}
    if strategy.get("_target_") == _RANDOM:
        return queried
    if not str(strategy.get("_target_")).startswith(_OF_THIS_PACKAGE):
        return 0
    return int(float(strategy.get("random_share") or 0) * queried)


def newest_picked_accuracy(
    run_dir: Path, config: Mapping[str, Any], records: Sequence[RoundRecord]
) -> tuple[int, PickedAccuracy] | None:
    """Return the newest round whose picks have a `picked_accuracy`, and that accuracy; None if there is none."""
    for record in reversed(records):
        found = picked_accuracy(run_dir, config, record)
        if found is not None:
            return record.round, found
    return None


def _is_wrong(prediction: str | None, label: int, present: Sequence[int | None] | None) -> bool | None:
    """Compare a prediction, a class of its round, with the label, a present class; None if one is not known."""
    if not prediction or label == _UNANSWERED:
        return None
    predicted = int(prediction) if present is None else present[int(prediction)]
    return None if predicted is None else predicted != label
