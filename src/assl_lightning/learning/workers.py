"""Processes in which a loader decodes images: they leave signals to the run, and the loader reports a lost one."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import connection
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Sampler

Item = TypeVar("Item")

_SECONDS_TO_DIE = 5.0


class WorkerLoader(DataLoader[Item]):
    """A `DataLoader` that reports a lost worker as one error, and whose workers can be stopped.

    torch raises the loss of a worker from a signal handler, in any line of the main thread, where it can be taken for
    an error of that line. This loader raises it within some seconds, where the next item is awaited.

    Indices go to the workers by value. Tensors would lie in shared memory, which one side requests from the other: if
    one of them has just been killed, the other would print a traceback.

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

    @property
    def _index_sampler(self) -> Iterable[Any]:  # torch's own name for what it sends to the workers
        return _ByValue(self.sampler) if self.num_workers else self.sampler

    def stop(self) -> None:
        """End the workers.

        The workers of an iteration that was cut short would otherwise live until its traceback is collected, and then
        take some seconds each to end.
        """
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


def begin_worker(_worker: int) -> None:
    """Prepare a worker: leave the signals of a terminal to the run, which saves first, and print no lost connections.

    A signal to the process group (Ctrl-C, `kill -- -GROUP`) then reaches only the run. The worker ends with its run:
    torch's own watch begins later, and would keep a worker for ever whose run was killed before.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    sys.excepthook = _without_lost_connections
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """Wait until the run has ended, then end this worker."""
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)


def _without_lost_connections(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print an error as `sys.excepthook` does, but for a lost connection to the run."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


class _ByValue:
    """A sampler whose items are pickled with the values of their tensors."""

    def __init__(self, items: Sampler[Any] | Iterable[Any]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # torch asks for it only where the sampler knows it

    def __iter__(self) -> Iterator[_Packed]:
        return map(_Packed, self._items)


class _Packed:
    def __init__(self, item: Any) -> None:
        self._item = item

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (tree_map_only(Tensor, _Numbers, self._item),)


class _Numbers:
    """An array in place of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.array = tensor.numpy()


def _unpack(item: Any) -> Any:
    return tree_map_only(_Numbers, lambda numbers: torch.from_numpy(numbers.array), item)


def _is_of_a_lost_worker(error: Exception, iterator: Any) -> bool:
    if isinstance(error, RuntimeError):
        return re.match(r"DataLoader worker \(pid", str(error)) is not None
    # An item broke off. torch checks once if its sender lives, which may still be dying then.
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
