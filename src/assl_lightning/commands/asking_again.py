"""Ask people again about the labels that an audit found, in a batch of its own, whose answers become labels."""

from __future__ import annotations

from collections.abc import Iterator

from assl_lightning.base.locking import held
from assl_lightning.base.run_files import LEDGER
from assl_lightning.base.shell import command
from assl_lightning.base.words import counted
from assl_lightning.commands.auditing import Audit
from assl_lightning.commands.predicting import RunPredictor
from assl_lightning.config.build import make_oracle
from assl_lightning.people.batch import find_audits, find_batches, next_audit
from assl_lightning.people.judging import unanswered
from assl_lightning.people.ledger import Ledger
from assl_lightning.people.oracle import People


def asks_people(predictor: RunPredictor) -> bool:
    """True if the labels of a run come from people, whom an audit can ask once more."""
    return str(predictor.config.oracle.get("_target_", "")).endswith(".People")


class Asking:
    """The way to ask the people of a run.

    Raises:
        ValueError: the run's answers do not come from people, or these cannot be asked now.
    """

    def __init__(self, predictor: RunPredictor) -> None:
        self._predictor = predictor
        self._run_dir = predictor.directory.path
        config = predictor.config
        if not asks_people(predictor):
            raise ValueError(
                f"--ask: must be of a run that asks people (oracle=page, file or label_studio); the answers here come "
                f"from {config.oracle.get('_target_')}: correct the labels where they are kept"
            )
        oracle = make_oracle(config, predictor.source)
        assert isinstance(oracle, People)
        self._people = oracle

    def ask(self, found: Audit, most: int | None) -> Iterator[str]:
        """Write a batch of the images in question, at most so many, and yield the lines for people.

        Images that an audit asked about before, or that the open batch of a round holds, are not asked about again. The
        batch is there as a whole or not at all; the answers go to the ledger, as all answers of people do.
        """
        with held(self._run_dir):
            audits = find_audits(self._run_dir)
            batches = [*audits, *(batch for batch in find_batches(self._run_dir) if batch.is_open)]
            known = {sample.index for batch in batches for sample in batch.samples}
            asked = {index: name for index, name in found.questions.items() if index not in known}
            before = len(found.questions) - len(asked)
            asked = dict(list(asked.items())[:most])
            if asked:
                directory = next_audit(self._run_dir)
                number = self._predictor.directory.under_way() + 1  # the run may have gone on since the audit
                instructions = self._people.ask_again(directory, number, list(asked), list(asked.values()))
                yield f"asked once more: {counted(len(asked), 'image')} in {directory}. {instructions}"
                yield (
                    f"answers on the page count as labels at once, those in a file when the run goes on or "
                    f"{command('ingest', self._run_dir, 'FILE')} takes it; training uses them from the next round on"
                )
            else:
                yield "there is nothing new to ask people about"
            if before:
                yield f"  not asked again: {counted(before, 'image')} of earlier audits, or of the round that waits"
            answers = Ledger(self._run_dir / LEDGER).active_answers()
            for audit in audits:
                if audit.is_open and (left := unanswered(audit, answers)):
                    yield f"  {audit.title} still waits for {counted(len(left), 'answer')}. {self._people.offer(audit)}"
