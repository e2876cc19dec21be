from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assl_lightning.commands import jobs, running

NOTHING: Any = SimpleNamespace(as_dict=dict, trainer={"memory_format": "channels_last"})


def run_out_on_the_cpu(_: object) -> None:
    torch.empty(2**60)


def run_out_on_a_gpu(_: object) -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB of which 1 GiB is free."
    )


def find_no_room_for_a_library(_: object) -> None:
    raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.mark.parametrize(
    ("run", "begins"),
    [
        (run_out_on_the_cpu, "RuntimeError: "),
        (run_out_on_a_gpu, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB; lower"),
        (find_no_room_for_a_library, "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_run_without_room_for_a_tensor_says_what_to_lower(
    run: Any, begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "run", run)
    (line,) = jobs.run_job(NOTHING).errors
    assert line.startswith(begins)
    assert "; lower algorithm.batch_size or algorithm.mu, or choose trainer.precision=bf16-mixed" in line


def view_what_lies_otherwise(_: object) -> None:
    torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last).view(2, -1)


def test_a_step_that_cannot_view_its_maps_says_which_layout_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run", view_what_lies_otherwise)
    (line,) = jobs.run_job(NOTHING).errors
    assert line.startswith("RuntimeError: view size is not compatible")
    assert line.endswith(
        "; choose trainer.memory_format=contiguous, or call reshape instead of view in the network, in another run_dir"
    )


def test_threads_that_free_tensors_may_run_before_the_process_group_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As gloo's threads do; here a thread that gets the interpreter's lock only where the other gives it up."""
    begin, has_run = threading.Event(), threading.Event()
    had_run: list[bool] = []
    gathered: list[Any] = [None]
    destroy = torch.distributed.destroy_process_group

    def closing() -> None:
        had_run.append(has_run.is_set())
        destroy()

    def wait_for_the_lock() -> None:
        begin.wait()
        has_run.set()

    monkeypatch.setattr(torch.distributed, "destroy_process_group", closing)
    monkeypatch.setenv("LOCAL_RANK", "0")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    torch.distributed.all_gather_object(gathered, "a rank's error")
    thread = threading.Thread(target=wait_for_the_lock)
    thread.start()
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1000.0)
        begin.set()
        jobs._forget_processes()
    finally:
        sys.setswitchinterval(interval)
        thread.join()

    assert had_run == [True]
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ
