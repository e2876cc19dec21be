"""The section on accuracy without a hold-out: the predictions of images that were picked at random."""

from __future__ import annotations

from statistics import fmean

from assl_lightning.base.proportions import Proportion
from assl_lightning.base.words import UNKNOWN, per_cent
from assl_lightning.report.analysis.random_picks import added, predicted_at_random
from assl_lightning.report.analysis.runs import Accuracy, Method, Setting, accuracies
from assl_lightning.report.views import Block, Paragraph, Table


def random_pick_blocks(setting: Setting) -> tuple[Block, ...]:
    """Show the accuracy on picks drawn at random, beside that on the test set, or nothing where there are none."""
    rows = [row for method in setting.methods.values() for row in _rows(method, setting)]
    if not rows:
        return ()
    sentence = (
        "The predictions of images that were picked at random, compared with their labels, which the model had not "
        "been trained on: an estimate of its accuracy on the images that it could pick, without bias and without a "
        "hold-out. All seeds together, with the 95 % interval (Wilson's) and the number of images. Below it the test "
        "accuracy of the same weights."
    )
    header = ("accuracy, %", *(f"{labels:,} labels" for labels in setting.labels))
    return Paragraph(sentence), Table("Accuracy on images picked at random", header, tuple(rows))


def _rows(method: Method, setting: Setting) -> list[tuple[str, ...]]:
    runs = list(method.runs.values())
    found = [
        added([predicted_at_random(run, run.records[number]) for run in runs if number < len(run.records)])
        for number in range(len(setting.labels))
    ]
    if not any(proportion.count for proportion in found):
        return []
    which: Accuracy = "ema" if method.config["acquisition"].get("weights") == "ema" else "raw"
    tested = accuracies(method, tuple(method.runs), which)
    return [
        (f"{method.name}: at random", *map(_cell, found)),
        (f"{method.name}: test", *(per_cent(fmean(column), digits=1) for column in tested.T.tolist())),
    ]


def _cell(found: Proportion) -> str:
    if not found.count:
        return UNKNOWN
    low, high = found.interval
    return f"{per_cent(found.share)} [{per_cent(low)}, {per_cent(high)}], n = {found.count}"
