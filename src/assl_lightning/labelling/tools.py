"""By what way people are asked, where nothing but the run's own directory is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from assl_lightning.commands import command
from assl_lightning.labelling.batch import TABLE, LabelBatch
from assl_lightning.labelling.incoming import Incoming
from assl_lightning.labelling.label_files import read_labels

RETURNED = ("labels.csv", "labels.parquet", "labels.json")
"""The names by which labels are looked for in a batch's directory."""


def returned_file(batch: LabelBatch) -> Path | None:
    """The file of labels that somebody put into a batch's directory; None where there is none yet.

    Raises:
        ValueError: there are several.
    """
    found = [batch.directory / name for name in RETURNED if (batch.directory / name).exists()]
    if len(found) > 1:
        raise ValueError(
            f"{batch.directory} must hold one of {', '.join(RETURNED)}; it holds "
            f"{' and '.join(path.name for path in found)}: leave one, or name the file"
        )
    return found[0] if found else None


class LabelsByFile:
    """A table goes out, and comes back with its column label filled in: into the batch's directory, or by `ingest`."""

    def check(self, class_names: Sequence[str]) -> None:
        """Nothing is needed."""

    def offer(self, batch: LabelBatch) -> str:
        """What to do; the table is there already."""
        return (
            f"Fill in the column label of {batch.directory / TABLE} ({', '.join(batch.class_names)}; or status: skip, "
            f"bad), and save it as {batch.directory / 'labels.csv'}; {command('ingest', batch.run_dir, 'FILE')} takes "
            f"any other file."
        )

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """What the file says that came back, again each time; nothing where there is none yet."""
        path = returned_file(batch)
        return [] if path is None else [replace(one, round=batch.round) for one in read_labels(path)]


class LabelsByPage:
    """A page in the browser, which writes each answer into the ledger at once."""

    def check(self, class_names: Sequence[str]) -> None:
        """Nothing is needed here; who labels needs the extra `label`."""

    def offer(self, batch: LabelBatch) -> str:
        """The command that opens the page."""
        return f"The command {command('label', batch.run_dir)} opens the page."

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """Nothing: the ledger has it."""
        return []
