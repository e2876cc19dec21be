"""The classes of a finished or waiting run, their changes, and the answers to its queries as present classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assl_lightning.loop.class_history import named_classes, read_history
from assl_lightning.loop.records import CLASSES, RoundRecord
from assl_lightning.report.analysis.runs import Run


def names_of(run: Run) -> tuple[str, ...]:
    """The present names of a run's C classes, by number; the numbers where config.yaml has no names."""
    history = read_history(run.directory)
    if names := named_classes(run.config) if history is None else history.names():
        return names
    count, written = int(run.config["data"]["num_classes"]), run.config.get(CLASSES)
    return tuple(map(str, written if isinstance(written, list) and len(written) == count else range(count)))


def present_labels(run: Run, record: RoundRecord) -> list[int]:
    """The answers to a round's query, in pick order, as places among the present classes; −1 where there is none.

    A record has the numbers of the classes that its answers were taken over for, which are those of the next round.
    """
    history = read_history(run.directory)
    if history is None:
        return list(record.queried_labels)
    places = history.present_labels(record.round + 1)
    found = [places[label] if 0 <= label < len(places) else None for label in record.queried_labels]
    return [-1 if place is None else place for place in found]


def describe_changes(run_dir: Path, records: Sequence[RoundRecord]) -> str:
    """The rounds of the `records` that were the first to train with other classes; "" where there is none."""
    history = read_history(run_dir)
    newest = max((record.round for record in records), default=0)
    if history is None:
        return ""
    told = []
    for number in range(1, newest + 1):
        before, now = history.names(number - 1), history.names(number)
        if before != now:
            parts = [*_told("without", before, now), *_told("with", now, before)]
            told.append(f"from round {number} on {len(now)} classes ({', '.join(parts) or 'in another order'})")
    if not told:
        return ""
    return (
        f"Classes: {len(history.names(0))} at first, {'; '.join(told)}. Accuracies before and after such a "
        f"round are of different tasks."
    )


def _told(word: str, names: Sequence[str], others: Sequence[str]) -> list[str]:
    found = [name for name in names if name not in others]
    return [f"{word} {' and '.join(found)}"] if found else []
