"""Triton's kernels without a GPU: its interpreter runs them on tensors of the CPU, program by program.

Triton reads TRITON_INTERPRET when it is imported, and again at each kernel's definition, so both are imported here,
when tests are collected, before another module imports Triton.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache

import pytest
import torch

from assl_lightning.base import kernels


@cache
def interpreted_kernels() -> bool:
    """Import Triton and all kernels of this package for the interpreter; return False where there is no Triton.

    On a machine with a GPU they are left as they are: `pytest -m gpu` runs them there.
    """
    if not kernels.has_triton() or torch.cuda.is_available():
        return False
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        import triton.language
        from triton.runtime.interpreter import InterpretedFunction

        from assl_lightning.augment import fused_kernel

        with suppress(ImportError):
            import triton.experimental.gluon  # which the first launch would import
    assert isinstance(fused_kernel.make_views, InterpretedFunction)
    assert isinstance(triton.language.sum, InterpretedFunction), "Triton was imported before"
    return True
