"""The numbers of a report as one tidy CSV: a row for each setting, method, seed and round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.analysis.runs import Setting
from assl_lightning.report.sections.durations import PART_NAMES


def tidy_csv(settings: Sequence[Setting]) -> str:
    """Write a row for each trained round, also for rounds that not all runs have.

    Accuracies lie in [0, 1], times are in seconds, and unknown values are empty. Predictions are compared with those
    of the round before, or of a second training on the same labels.
    """
    extra = {part for *_, record in _rounds(settings) for part in record.seconds} - PART_NAMES.keys()
    parts = [*PART_NAMES, *sorted(extra)]
    rows = [
        {"setting": setting, "method": method, "seed": seed, **_row(record, parts)}
        for setting, method, seed, record in _rounds(settings)
    ]
    return rows_as_csv(rows)


def _rounds(settings: Sequence[Setting]) -> Iterator[tuple[str, str, int, RoundRecord]]:
    for setting in settings:
        for method in setting.methods.values():
            for seed, run in sorted(method.runs.items()):
                for record in run.all_records:
                    yield setting.name, method.name, seed, record


def _row(record: RoundRecord, parts: Sequence[str]) -> dict[str, object]:
    return {
        "round": record.round,
        "labels": record.labels,
        "steps": record.steps,
        "test_accuracy_ema": record.test_accuracy_ema,
        "test_accuracy_raw": record.test_accuracy_raw,
        "test_balanced_accuracy_ema": record.test_balanced_accuracy_ema,
        "test_balanced_accuracy_raw": record.test_balanced_accuracy_raw,
        "coverage": record.coverage,
        "mask_rate": record.mask_rate,
        "queried": len(record.queried),
        "drawn_at_random": record.drawn_at_random,
        "predictions_compared": record.agreement.get("images"),
        "predictions_agreeing": record.agreement.get("agreeing"),
        "kappa": record.agreement.get("kappa"),
        "kappa_same_labels": record.floor.get("kappa"),
        **{f"{part}_seconds": record.seconds.get(part) for part in parts},
    }
