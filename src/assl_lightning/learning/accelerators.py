"""The values for "auto": an accelerator, which is the CPU where an Apple GPU cannot compute a step, and a precision."""

from __future__ import annotations

import logging
from functools import cache

import torch
from lightning.pytorch.accelerators.cuda import CUDAAccelerator
from lightning.pytorch.accelerators.mps import MPSAccelerator
from torch import Tensor

from assl_lightning.augment import StrongAugment, dense
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.method.statistics import SampleStatistics

log = logging.getLogger(__name__)

AUTO = "auto"
_SAMPLES = 64


@cache
def auto_accelerator() -> str:
    """Return the accelerator for "auto": "auto", or "cpu" if `fault_of` finds a fault of an Apple GPU.

    CUDA is not tried, because it is known to compute every step. A choice of the CPU is logged in one line.
    """
    if not MPSAccelerator.is_available() or CUDAAccelerator.is_available():
        return "auto"
    fault = fault_of(torch.device("mps", 0))
    if fault is None:
        return "auto"
    log.warning(
        "training on the CPU, since this machine's GPU %s; trainer.accelerator=cpu chooses it without a trial", fault
    )
    return "cpu"


def has_gpu() -> bool:
    """Return whether Lightning finds a GPU here, of NVIDIA, AMD or Apple."""
    return CUDAAccelerator.is_available() or MPSAccelerator.is_available()


def auto_precision(accelerator: object) -> str:
    """Return Lightning's precision for "auto": "bf16-mixed" on a CUDA device made for bfloat16, elsewhere "32-true".

    Such a device has a compute capability of 8 or more (Ampere and later); older ones only emulate the type. Of several
    devices the present one is asked.

    Args:
        accelerator: as Lightning's Trainer takes it.
    """
    is_cuda = accelerator in (AUTO, "gpu", "cuda") or isinstance(accelerator, CUDAAccelerator)
    if not (is_cuda and CUDAAccelerator.is_available()):
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def fault_of(device: torch.device) -> str | None:
    """Return how `device` differs from the CPU in the parts of a step beside the network; None if they agree.

    Random draws and augmented views must agree in every bit, statistics to one part in 10⁵.
    """
    try:
        there = [result.cpu() for result in _results(device)]
    except (NotImplementedError, RuntimeError, TypeError) as error:
        return f"cannot compute a training step ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    draws, views, score = _results(torch.device("cpu"))
    if not torch.equal(there[0], draws):
        return "draws other random numbers than the CPU"
    if not torch.equal(there[1], views):
        return "makes other augmented images than the CPU"
    if not torch.allclose(there[2], score, rtol=1e-5, atol=0):
        return "computes other statistics than the CPU"
    return None


def _results(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Draws (B, 2) int64, strong views (B, 3, 32, 32) uint8 and scores (B,) float32, made on `device`."""
    row = torch.arange(_SAMPLES, device=device)
    draws = Draws(derive_key(0, "accelerators"), row)
    bits = draws.bits((0, 1))
    pixels = Draws(derive_key(1, "accelerators"), row).integers(range(3 * 32 * 32), 256)
    images = pixels.to(torch.uint8).view(_SAMPLES, 3, 32, 32)
    views = StrongAugment()._view(images, draws, dense)
    statistics = SampleStatistics(_SAMPLES, device=device)
    for repeats in (False, True):
        index = row // 2 * 2 if repeats else row
        statistics.update(index, draws.uniform(2), draws.uniform(3), assume_unique=not repeats)
    return bits, views, statistics.score(c_u=0.5, c_i=2.0)
