"""The labelled set of a run: the images that people have labelled so far, each with the label that counts now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.base.run_files import INITIAL, LEDGER, round_directory
from assl_lightning.data.answers import Conflicts, ResolvedLabel, name_of, resolve
from assl_lightning.people.batch import AskedSample, LabelBatch, find_all_batches
from assl_lightning.people.ledger import Ledger

COLUMNS = ("path", "sample_id", "label", "split", "round", "people")
"""The columns of the table, which data=manifest and data.source.labels read; both ignore the last two."""


@dataclass(frozen=True)
class LabelledSample:
    """An image and its label."""

    sample_id: str
    path: Path | None  # None if the data are no files
    label: str  # the present name of its class
    round: int  # the first that asked for it
    people: tuple[str, ...]  # those who gave the label, or decided it
    is_held_out: bool  # the image is in the test set


@dataclass(frozen=True)
class LabelledSet:
    """The labelled images, in the order in which they were asked for."""

    samples: tuple[LabelledSample, ...]
    disputed: int  # images about which people differ, which are not among them

    def table(self) -> str:
        """Return the table as CSV with `COLUMNS`; split is test for an image of the hold-out, else pool."""
        rows = [
            (
                sample.path,
                sample.sample_id,
                sample.label,
                "test" if sample.is_held_out else "pool",
                sample.round,
                "; ".join(map(name_of, sample.people)),
            )
            for sample in self.samples
        ]
        return table_as_csv(COLUMNS, rows)


def labelled_set(run_dir: Path, conflicts: Conflicts) -> LabelledSet:
    """Read the labelled set from the ledger of a run, or of a copy of its batches, at any time.

    Skipped and bad images have no label, and those about which people differ have none until that is settled. Labels
    that the data had before the run are not in the ledger, and not here. Paths are absolute where the files are found,
    from the working directory if the run has relative ones, and else as the run has them.

    Raises:
        ValueError: a file cannot be read.
    """
    asked: dict[str, tuple[AskedSample, LabelBatch]] = {}
    for batch in find_all_batches(run_dir):
        for sample in batch.samples:
            asked.setdefault(sample.sample_id, (sample, batch))
    resolved = resolve(Ledger(run_dir / LEDGER).active_answers(), conflicts)
    held_out = _held_out(run_dir)
    samples = []
    for name, (sample, batch) in asked.items():
        found = resolved.get(name)
        if found is not None and found.label is not None:
            path, people = _found(sample.path), _people(found)
            is_held_out = (batch.round == 0 or batch.is_audit) and sample.index in held_out
            samples.append(LabelledSample(name, path, found.label, batch.round, people, is_held_out))
    disputed = sum(found.kind == "conflict" for name, found in resolved.items() if name in asked)
    return LabelledSet(tuple(samples), disputed)


def _people(found: ResolvedLabel) -> tuple[str, ...]:
    if found.decision is not None and found.decision.label == found.label:
        return (found.decision.annotator,)
    return tuple(vote.annotator for vote in found.votes if vote.label == found.label)


def _found(path: str | None) -> Path | None:
    if path is None:
        return None
    return Path(path).resolve() if Path(path).exists() else Path(path)


def _held_out(run_dir: Path) -> frozenset[int]:
    """Return the pool indices of the hold-out; none in a copy of a batch."""
    path = round_directory(run_dir, 0) / INITIAL
    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8"))["held_out"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); restore it") from None
