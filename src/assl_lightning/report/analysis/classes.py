"""The classes of a finished or waiting run, their changes, and the answers to its queries as present classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assl_lightning.loop.class_history import named_classes, present_answers, read_history
from assl_lightning.loop.records import CLASSES, RoundRecord
from assl_lightning.report.analysis.runs import Run


def names_of(run: Run) -> tuple[str, ...]:
    """Return the present names of a run's C classes, by number; or the numbers, if config.yaml has no names."""
    history = read_history(run.directory)
    if names := named_classes(run.config) if history is None else history.names():
        return names
    count, written = int(run.config["data"]["num_classes"]), run.config.get(CLASSES)
    return tuple(map(str, written if isinstance(written, list) and len(written) == count else range(count)))


def present_labels(run: Run, record: RoundRecord) -> list[int]:
    """Return the answers to a round's query, in pick order, as numbers of present classes; −1 is no answer."""
    return present_answers(read_history(run.directory), record)


def describe_changes(run_dir: Path, records: Sequence[RoundRecord]) -> str:
    """Describe the rounds of the `records` from which classes are different, or return ""."""
    history = read_history(run_dir)
    newest = max((record.round for record in records), default=0)
    if history is None:
        return ""
    changes = []
    for number in range(1, newest + 1):
        before, now = history.names(number - 1), history.names(number)
        if before != now:
            parts = [*_missing("without", before, now), *_missing("with", now, before)]
            changes.append(f"from round {number} on {len(now)} classes ({', '.join(parts) or 'in another order'})")
    if not changes:
        return ""
    return (
        f"Classes: {len(history.names(0))} at first, {'; '.join(changes)}. Accuracies before and after such a "
        f"round are of different tasks."
    )


def _missing(word: str, names: Sequence[str], others: Sequence[str]) -> list[str]:
    found = [name for name in names if name not in others]
    return [f"{word} {' and '.join(found)}"] if found else []
