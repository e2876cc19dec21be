"""Kernels written in Triton, which comes with torch's wheels for CUDA: where they can run, and how one is launched."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch


@cache
def has_triton() -> bool:
    """Return if Triton is installed."""
    return find_spec("triton") is not None


def can_run(device: torch.device) -> bool:
    """Return if `device` may run kernels: a CUDA device of compute capability 7.0 or more, where Triton is there."""
    return device.type == "cuda" and has_triton() and torch.cuda.get_device_capability(device) >= (7, 0)


def launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Launch so many programs of a kernel; nothing waits for them.

    Products and sums are rounded apart, as in torch's operators one by one, so that results have the same bits.
    """
    with torch.cuda.device_of(arguments[0]):  # which need not be the current device
        kernel[(programs,)](*arguments, **constants, enable_fp_fusion=False)
