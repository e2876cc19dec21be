"""Triton's kernels without a GPU: its interpreter runs them on tensors of the CPU, program by program.

Triton reads TRITON_INTERPRET when it is imported, and at each kernel's definition. Therefore `conftest` imports this
module, and it imports Triton, before a test or torch does. On a machine with an NVIDIA GPU Triton is left as it is.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

INTERPRETS = find_spec("triton") is not None and not Path("/dev/nvidia0").exists()
KERNELS = ("assl_lightning.augment.fused_kernel", "assl_lightning.method.score_kernels")


def _import(*names: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for name in names:
            import_module(name)


if INTERPRETS:
    _import("triton", "triton.language")
    with suppress(ImportError):
        _import("triton.experimental.gluon")  # which the first launch would import


@cache
def interpreted_kernels() -> bool:
    """Import the kernels of this package for the interpreter; return False where there is none."""
    if INTERPRETS:
        _import(*KERNELS)
    return INTERPRETS


@cache
def interpreted_views() -> bool:
    """Return if the kernel of the views runs here; Triton before 3.3, of torch 2.6, has no `gather`."""
    return interpreted_kernels() and hasattr(import_module("triton.language"), "gather")
