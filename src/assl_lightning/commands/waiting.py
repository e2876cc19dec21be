"""Waiting for people without a training process, or a GPU, that waits along."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from assl_lightning.commands.run_status import Status, needed_answers, oracle_of, read_status
from assl_lightning.loop.records import read_config
from assl_lightning.people.batch import LabelBatch, waiting_batch
from assl_lightning.people.returned import RETURNED


def wait_for_answers(
    run_dir: Path, seconds: float, tell: Callable[[Status], None], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Come back when a run has what it waits for: enough answers in the ledger, a file that came back, or tasks done.

    Args:
        run_dir: of the run.
        seconds: between two looks.
        tell: called with what was found first, and whenever more is answered.
        sleep: waits so long.

    Raises:
        ValueError: the directory holds no run, or what it holds cannot be read.
        ConnectionError: a server of Label Studio cannot be asked.
    """
    told = None
    while True:
        status = read_status(run_dir)
        if status.answered != told:
            tell(status)
            told = status.answered
        if status.goes_on or _has_come(run_dir):
            return
        sleep(seconds)


def _has_come(run_dir: Path) -> bool:
    """Whether enough was answered by a way that does not end in the ledger until the run takes it."""
    batch = waiting_batch(run_dir)
    oracle = oracle_of(read_config(run_dir))
    tool = oracle.get("tool")
    name = str(tool.get("_target_", "")) if isinstance(tool, dict) else ""
    if name.endswith(".LabelsByFile"):
        return any((batch.directory / file).exists() for file in RETURNED)
    if name.endswith(".labels_by_label_studio") and isinstance(tool, dict):
        return _tasks_done(tool, batch) >= needed_answers(batch, oracle)
    return False


def _tasks_done(tool: Mapping[str, Any], batch: LabelBatch) -> int:
    from assl_lightning.people.label_studio.exchange import LabelStudioFiles, labels_by_label_studio

    exchange = labels_by_label_studio(**{name: value for name, value in tool.items() if not name.startswith("_")})
    if isinstance(exchange, LabelStudioFiles):
        return len(exchange.collect(batch))
    return exchange.progress(batch)[0]
