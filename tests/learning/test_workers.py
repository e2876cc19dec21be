"""Test what happens when workers or their run are lost; tests/test_streaming.py kills a worker of a whole run."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, Sampler

from assl_lightning.learning import workers
from assl_lightning.learning.workers import WorkerLoader, begin_worker

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # of a machine with a single core
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),  # Python >= 3.12
]


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


class _Items(Dataset[dict[str, Any]]):
    """Pixels, which go to the run through shared memory, beside the item as it came."""

    def __getitem__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "pixels": torch.zeros(8, 3, 16, 16, dtype=torch.uint8)}


class _Endless(Sampler[dict[str, Any]]):
    def __len__(self) -> int:
        return 1_000_000

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for step in range(len(self)):
            yield {"step": step, "index": torch.arange(12), "row": torch.arange(0)}


def loader(**settings: Any) -> WorkerLoader[Any]:
    return WorkerLoader(_Items(), batch_size=None, sampler=_Endless(), worker_init_fn=begin_worker, **settings)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_items_reach_a_worker_as_they_are(num_workers: int) -> None:
    found = loader(num_workers=num_workers)
    assert len(found) == 1_000_000
    items = list(itertools.islice(found, 2))
    found.stop()
    assert [item["step"] for item in items] == [0, 1]
    for item in items:
        assert item["index"].tolist() == list(range(12))
        assert item["row"].shape == (0,)
        assert item["row"].dtype == torch.int64


@pytest.mark.e2e
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell which processes there are")
def test_the_workers_of_a_run_that_is_killed_end_without_a_word(tmp_path: Path) -> None:
    said, (reader, writer) = tmp_path / "stderr", os.pipe()
    run = os.fork()
    if run == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        iteration = iter(found := loader(num_workers=2))
        next(iteration)
        workers = [worker.pid for worker in next(iter(found._started))._workers]
        os.write(writer, " ".join(map(str, workers)).encode())
        for _ in iteration:
            pass
    pids = os.read(reader, 100).decode().split()
    os.close(reader)
    os.close(writer)
    assert len(pids) == 2
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    until = time.monotonic() + 60
    while any(Path("/proc", pid).exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert [pid for pid in pids if Path("/proc", pid).exists()] == []
    assert said.read_text() == ""


def _begin_late(directory: Path) -> None:
    """Work in a worker that begins only after its run was killed."""
    (directory / "started").touch()
    while not (directory / "killed").exists():
        time.sleep(0.01)
    begin_worker(0)
    time.sleep(60)


@pytest.mark.e2e
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell which processes there are")
def test_a_worker_that_begins_after_its_run_was_killed_ends(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    run = os.fork()
    if run == 0:
        worker = multiprocessing.get_context("fork").Process(target=_begin_late, args=(tmp_path,))
        worker.start()
        os.write(writer, str(worker.pid).encode())
        time.sleep(60)
    pid = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    (tmp_path / "killed").touch()
    until = time.monotonic() + 30
    while Path("/proc", pid).exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path("/proc", pid).exists()
