"""What the loss of a worker is told by; tests/test_streaming.py kills one of a whole run."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import pytest

from assl_lightning.data import workers
from assl_lightning.data.workers import WorkerLoader


class _Broken:
    """An iterator of torch's whose next item breaks off; its one worker dies with it, or goes on."""

    def __init__(self, error: Exception, dies: bool) -> None:
        process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), daemon=True)
        process.start()
        self._workers, self._error, self._dies = [process], error, dies

    def __iter__(self) -> Iterator[Any]:
        if self._dies:
            self._workers[0].kill()
        raise self._error


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_an_item_that_breaks_off_with_its_worker_tells_of_the_worker(error: Exception) -> None:
    broken = _Broken(error, dies=True)
    with pytest.raises(ChildProcessError, match=rf"was lost \(process {broken._workers[0].pid} by SIGKILL\); the same"):
        list(WorkerLoader._watch(broken))


def test_an_error_of_the_data_set_itself_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_SECONDS_TO_DIE", 0.1)
    broken = _Broken(ConnectionRefusedError(111, "no such server"), dies=False)
    with pytest.raises(ConnectionRefusedError, match="no such server"):
        list(WorkerLoader._watch(broken))
    broken._workers[0].kill()
