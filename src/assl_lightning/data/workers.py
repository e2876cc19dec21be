"""The processes in which a loader decodes images: signals are the run's, and the loss of one is told by the loader."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from multiprocessing import connection
from typing import Any, TypeVar
from weakref import WeakSet

from torch.utils.data import DataLoader

Item = TypeVar("Item")

_SECONDS_TO_DIE = 5.0


class WorkerLoader(DataLoader[Item]):
    """A `DataLoader` whose workers may be lost, and may be told to `stop`.

    torch raises the loss of a worker in whatever line the main thread is then, as a signal's handler, where it may be
    taken for that line's own error. Here it is raised within some seconds by whoever waits for the next item.

    Raises:
        ChildProcessError: a worker was killed, while an item is waited for.
    """

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
        iterator: Any = super().__iter__()
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, handler)
        self._started: WeakSet[Any] = getattr(self, "_started", WeakSet())
        self._started.add(iterator)
        return self._watch(iterator)

    def stop(self) -> None:
        """End the workers. Those of an iteration that was cut short would wait to be collected with its traceback, and
        then, each in its turn, some seconds to hear of it."""
        for iterator in list(getattr(self, "_started", ())):
            if hasattr(iterator, "_shutdown_workers"):  # as Lightning calls it
                iterator._shutdown_workers()

    @staticmethod
    def _watch(iterator: Any) -> Iterator[Item]:
        try:
            yield from iterator
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not _is_of_a_lost_worker(error, iterator):
                raise
            raise ChildProcessError(
                f"a process that decodes images was lost ({_how_they_ended(iterator)}); the same command goes on from "
                f"the last checkpoint. Where memory ran out, shared memory (/dev/shm) included, lower data.num_workers"
            ) from error


def leave_signals_to_the_run(_worker: int) -> None:
    """Called in each worker. What a terminal or `kill -- -GROUP` sends goes to the run alone, which saves first."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def _is_of_a_lost_worker(error: Exception, iterator: Any) -> bool:
    if isinstance(error, RuntimeError):
        return re.match(r"DataLoader worker \(pid", str(error)) is not None
    # An item broke off in the middle. torch looks once whether its sender is there, which may still be dying then.
    workers = {worker.sentinel: worker for worker in getattr(iterator, "_workers", ())}
    dying = connection.wait(list(workers), _SECONDS_TO_DIE)
    for sentinel in dying:
        workers[sentinel].join(_SECONDS_TO_DIE)
    return bool(dying)


def _how_they_ended(iterator: Any) -> str:
    ended = [worker for worker in getattr(iterator, "_workers", ()) if worker.exitcode is not None]
    return ", ".join(f"process {worker.pid} by {_in_words(worker.exitcode)}" for worker in ended)


def _in_words(exit_code: int) -> str:
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
