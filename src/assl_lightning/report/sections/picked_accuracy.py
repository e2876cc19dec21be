"""The section on accuracy without a hold-out: what the model said of its picks before it was trained on them."""

from __future__ import annotations

from functools import reduce
from operator import add
from statistics import fmean

from assl_lightning.base.words import UNKNOWN, per_cent
from assl_lightning.loop.picked_accuracy import picked_accuracy
from assl_lightning.report.analysis.runs import Accuracy, Method, Setting, accuracies
from assl_lightning.report.views import Block, Paragraph, Table
from assl_lightning.stopping.picked_accuracy import PickedAccuracy

_ALL = (
    "The predictions of picks, compared with their labels, which the model had not been trained on: an estimate of its "
    "accuracy on the images that it could pick, without a hold-out. All seeds together, with the 95 % interval and the "
    "number of picks. Below it the test accuracy of the same weights."
)
_RANDOM = "At random: images that were drawn uniformly; without bias, with Wilson's interval."
_WEIGHED = (
    "Weighed: all picks, each by how likely it was (LURE; Farquhar et al. 2021); without bias where each has a label. "
    "The interval is approximate: few picks may miss the rare errors that weigh much."
)


def picked_accuracy_blocks(setting: Setting) -> tuple[Block, ...]:
    """Show the accuracy that the picks tell, beside that on the test set, or nothing where they tell none."""
    found = {name: _of_rounds(method, setting) for name, method in setting.methods.items()}
    known = {name: rounds for name, rounds in found.items() if any(rounds)}
    if not known:
        return ()
    kinds = {_is_uniform(rounds) for rounds in known.values()}
    sentences = [_ALL, *([_RANDOM] if True in kinds else []), *([_WEIGHED] if False in kinds else [])]
    rows = [row for name, rounds in known.items() for row in _rows(setting.methods[name], rounds)]
    header = ("accuracy, %", *(f"{labels:,} labels" for labels in setting.labels))
    return Paragraph(" ".join(sentences)), Table("Accuracy by the picks", header, tuple(rows))


def _of_rounds(method: Method, setting: Setting) -> list[PickedAccuracy | None]:
    """Return for each number of labels the picks of all seeds."""
    runs = list(method.runs.values())
    found: list[PickedAccuracy | None] = []
    for number in range(len(setting.labels)):
        of_seeds = [
            picked_accuracy(run.directory, run.config, run.records[number]) for run in runs if number < len(run.records)
        ]
        known = [of_seed for of_seed in of_seeds if of_seed is not None]
        found.append(reduce(add, known) if known else None)
    return found


def _is_uniform(rounds: list[PickedAccuracy | None]) -> bool:
    return all(of_round.is_uniform for of_round in rounds if of_round is not None)


def _rows(method: Method, rounds: list[PickedAccuracy | None]) -> list[tuple[str, ...]]:
    which: Accuracy = "ema" if method.config["acquisition"].get("weights") == "ema" else "raw"
    tested = accuracies(method, tuple(method.runs), which)
    kind = "at random" if _is_uniform(rounds) else "weighed"
    return [
        (f"{method.name}: {kind}", *map(_cell, rounds)),
        (f"{method.name}: test", *(per_cent(fmean(column), digits=1) for column in tested.T.tolist())),
    ]


def _cell(found: PickedAccuracy | None) -> str:
    if found is None:
        return UNKNOWN
    low, high = found.interval
    return f"{per_cent(found.accuracy)} [{per_cent(low)}, {per_cent(high)}], n = {found.n}"
