"""By what way people are asked, where nothing but the run's own directory is needed."""

from __future__ import annotations

from collections.abc import Sequence

from assl_lightning.base.shell import command
from assl_lightning.data.answers import Incoming
from assl_lightning.people.batch import TABLE, LabelBatch


class LabelsByFile:
    """Labels by a table, whose column label is filled in where it lies, or in a copy that `ingest` takes over."""

    def check(self, class_names: Sequence[str]) -> None:
        """Nothing is needed."""

    def offer(self, batch: LabelBatch) -> str:
        """What to do; the table is there already."""
        return (
            f"Fill in the column label of {batch.directory / TABLE} ({', '.join(batch.class_names)}; or status: skip, "
            f"bad), and save it there; {command('ingest', batch.run_dir, 'FILE')} takes any other file."
        )

    def collect(self, batch: LabelBatch) -> Sequence[Incoming]:
        """Nothing: the run itself reads the files of labels in the batch's directory (`returned`)."""
        return []


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
