"""The processes in which a loader decodes images: signals are the run's, and the loss of one is told by the loader."""

from __future__ import annotations

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
    """A `DataLoader` whose workers may be lost, and may be told to `stop`.

    torch raises the loss of a worker in whatever line the main thread is then, as a signal's handler, where it may be
    taken for that line's own error. Here it is raised within some seconds by whoever waits for the next item.

    Indices go to the workers by value. Tensors would lie in shared memory, which either side asks the other for: where
    one of them has just been killed, the other would print a traceback of that beside what the run says.

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


def begin_worker(_worker: int) -> None:
    """Called in each worker. What a terminal or `kill -- -GROUP` sends goes to the run alone, which saves first; and a
    run that has ended before it took an item is no news."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    sys.excepthook = _without_lost_connections


def _without_lost_connections(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """A worker's `sys.excepthook`; it says nothing about a lost connection to the run."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, traceback)


class _ByValue:
    """Items that are pickled with the values of their tensors, and unpickled as they were."""

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
    """An array in the place of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.array = tensor.numpy()


def _unpack(item: Any) -> Any:
    return tree_map_only(_Numbers, lambda numbers: torch.from_numpy(numbers.array), item)


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
