"""Messages of a run about its rounds: what they tell of the accuracy and of labelling more."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assl_lightning.base.words import first_line
from assl_lightning.loop.budget import describe_batches
from assl_lightning.loop.picked_accuracy import picked_accuracy
from assl_lightning.loop.progress import outlook_of
from assl_lightning.loop.records import RoundRecord
from assl_lightning.loop.settings import RoundSettings

log = logging.getLogger(__name__)


def tell_outlook(records: Sequence[RoundRecord], config: Mapping[str, Any]) -> None:
    """Log what the rounds so far tell about labelling more, in a run of this plain configuration."""
    outlook = outlook_of(records, config)
    if outlook.is_known:
        for name, sentence in outlook.lines():
            log.info("round %d, %s: %s", records[-1].round, name, sentence)


def tell_picked(run_dir: Path, config: Mapping[str, Any], record: RoundRecord) -> None:
    """Log what a round's picks, which are labelled now, tell of the accuracy of the network that picked them."""
    try:
        found = picked_accuracy(run_dir, config, record)
    except (ValueError, OSError) as error:
        log.warning("the accuracy on the picks of round %d is not known: %s", record.round, first_line(error))
        return
    if found is not None:
        log.info("round %d, picks: %s", record.round, found)


def describe_left(settings: RoundSettings, number: int) -> str:
    """Describe how many labels a run asks for after those that round `number` waits for."""
    if number == settings.rounds:
        return " (these are the last)"
    what = "more to label after these"
    return f" ({describe_batches(settings.labels_after, number, settings.rounds, what)})"
