from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from assl_lightning.commands import jobs, running

NOTHING: Any = SimpleNamespace(as_dict=dict)


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
