"""The progress of a command over images."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from assl_lightning.base.heartbeat import Heartbeat

log = logging.getLogger(__name__)

Tell = Callable[[int, int], None]
"""Called with the number of images that are done, and of all; 0 where that is not known."""


@contextmanager
def progress() -> Iterator[Tell]:
    """Show how many images are done: a bar on a terminal, elsewhere a message a minute."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("")
            yield lambda done, count: bar.update(task, completed=done, total=count or None)
        return
    heartbeat = Heartbeat()

    def tell(done: int, count: int) -> None:
        if heartbeat.is_due():
            log.info("%s%s images are done", f"{done:,}", f" of {count:,}" if count else "")

    yield tell
