"""The classes of a run that was made, where they changed, and the answers to its queries among the present ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assl_lightning.analysis.runs import Run
from assl_lightning.records import CLASSES, RoundRecord
from assl_lightning.run_classes import named_classes, read_history


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
    places = history.places(record.round + 1)
    found = [places[label] if 0 <= label < len(places) else None for label in record.queried_labels]
    return [-1 if place is None else place for place in found]


def describe_changes(run_dir: Path, records: Sequence[RoundRecord]) -> str:
    """A sentence on each change of the classes that a round of the `records` has trained with; "" where there is none.

    What was taken back or done again is told as it was done.
    """
    history = read_history(run_dir)
    newest = max((record.round for record in records), default=-1)
    if history is None:
        return ""
    told = [
        f"{change} from round {change.round} on, which makes {len(history.names(change.round))} classes"
        for change in history.changes
        if change.kind != "begin" and 0 < change.round <= newest
    ]
    if not told:
        return ""
    return f"Classes changed: {'; '.join(told)}. Accuracies before and after such a round are of different tasks."
