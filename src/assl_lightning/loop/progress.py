"""Make the input of rules and reports from the records of a run; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assl_lightning.loop.budget import planned_labels
from assl_lightning.loop.records import RoundRecord
from assl_lightning.stopping.agreement import Agreement
from assl_lightning.stopping.outlook import Outlook
from assl_lightning.stopping.rules import Progress


def progress_of(records: Sequence[RoundRecord]) -> list[Progress]:
    """Return the input of rules for trained rounds."""
    return [
        Progress(
            round=record.round,
            labels=record.labels,
            accuracy=record.test_accuracy_ema,
            test_images=record.test_images,
            agreement=Agreement.of(record.agreement),
            floor=Agreement.of(record.floor),
        )
        for record in records
    ]


def outlook_of(records: Sequence[RoundRecord], config: Mapping[str, Any]) -> Outlook:
    """Return the outlook on labelling more after at least one trained round, in a run of this plain configuration.

    The next batch is at most the number of samples without a label when the last of the rounds was trained.
    """
    last = records[-1]
    planned = planned_labels(config, last.round)
    return Outlook.of(progress_of(records), None if planned is None else min(planned, last.unlabelled))
