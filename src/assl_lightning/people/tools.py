"""Labelling tools that need only the run's directory: by file and by web page."""

from __future__ import annotations

from collections.abc import Sequence

from assl_lightning.base.shell import command
from assl_lightning.data.answers import Incoming
from assl_lightning.people.batch import TABLE, LabelBatch


class LabelsByFile:
    """Labels by a table: people fill in its column label in the run's directory, or in a copy for `ingest`."""

    def check(self, class_names: Sequence[str]) -> None:
        """Return, since nothing is needed."""

    def offer(self, batch: LabelBatch) -> str:
        """Return what to do; the table is there already."""
        return (
            f"Fill in the column label of {batch.directory / TABLE} ({', '.join(batch.class_names)}; or status: skip, "
            f"bad), and save it there; {command('ingest', batch.run_dir, 'FILE')} takes any other file."
        )

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """Return nothing: the oracle reads the files of labels in the batch's directory (`returned`)."""
        return []


class LabelsByPage:
    """Labels by a page in the browser, which writes each answer to the ledger at once."""

    def check(self, class_names: Sequence[str]) -> None:
        """Return, since nothing is needed here; the machine where people label needs the extra `label`."""

    def offer(self, batch: LabelBatch) -> str:
        """Return the command that opens the page."""
        audit = ["--audit"] if batch.is_audit else []
        return f"The command {command('label', batch.run_dir, *audit)} opens the page."

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """Return nothing: the ledger has the answers."""
        return []
