"""Sentences on the test set: that of the data, or one that was drawn and labelled in round 0."""

from __future__ import annotations

from collections.abc import Sequence

from assl_lightning.base.words import counted, counted_each, from_to, per_cent
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.analysis.runs import Setting

_MANY = 1000  # images; one of so many is a tenth of a point


def describe_test_set(records: Sequence[RoundRecord], *, hold_out: int, initial_labels: int) -> str:
    """Describe the test set of a run with at least one trained round; the numbers are those of its configuration."""
    return _sentence([records], hold_out, initial_labels)


def describe_test_set_of(setting: Setting) -> str:
    """Describe the test sets of all runs of a setting, and the points of accuracy of one image."""
    runs = list(setting.runs)
    config = runs[0].config
    sentence = _sentence([run.records for run in runs], int(config.get("hold_out") or 0), int(config["initial_labels"]))
    known = _sizes([run.records for run in runs])
    few = min(known, default=_MANY)
    return sentence if few >= _MANY else f"{sentence} One image is {per_cent(1 / few)} points of accuracy."


def _sentence(runs: Sequence[Sequence[RoundRecord]], hold_out: int, initial_labels: int) -> str:
    known = _sizes(runs)
    if not hold_out:
        return f"Test set: the data's own, {counted_each(known, 'image')}." if known else "Test set: the data's own."
    size = counted(hold_out, "image")
    if known and set(known) != {hold_out}:
        size += f" ({counted_each(known, 'image')} with a label)"
    queried = [sum(len(record.queried) for record in records) for records in runs]
    total = from_to([hold_out + initial_labels + count for count in queried])
    return (
        f"Test set: {size} of the pool, drawn at random in round 0. Their labels count in the budget: {hold_out:,} for "
        f"the test + {initial_labels:,} initial + {from_to(queried)} queried = {total} asked for."
    )


def _sizes(runs: Sequence[Sequence[RoundRecord]]) -> list[int]:
    """Return the sizes of the test sets that are recorded and not empty."""
    return [record.test_images for records in runs for record in records if record.test_images]
