"""The score callback's numbers in two launches on a CUDA device: Eq. 1 and 4 of a batch, and the visits of its samples.

The definitions are `scores` and `SampleStatistics`. In Triton's interpreter on a CPU both kernels agree with them. They
have not met a GPU yet: therefore they are compared with torch's operators on each device before they are used there.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from assl_lightning.base import kernels
from assl_lightning.base.seeding import Draws
from assl_lightning.method import scores

log = logging.getLogger(__name__)

MOST_CLASSES = 4096
MOST_ROWS = 8192
"""Of a batch: a program looks at all indices at once."""

Table = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""(N + 1, 4) values, (N + 1,) visits, () number of updates before, (2,) fault, (2,) its values."""


def fused_scores(weak: Tensor, strong: Tensor | None) -> tuple[Tensor, Tensor | None] | None:
    """Return pseudo-EL2N of `weak` and the symmetric KL of both, (B,) each, or None where no kernel can.

    `weak` and `strong` are logits (B, C) without a gradient, of 32 or 16 bits.
    """
    if not kernels.can_run(weak.device) or not _fits(weak) or fault_of(weak.device) is not None:
        return None
    if strong is not None and (strong.shape != weak.shape or not _fits(strong)):
        return None
    observed = _score(weak, strong)
    return observed[:, 0], None if strong is None else observed[:, 1]


def can_visit(index: Tensor) -> bool:
    """Return if `visit` works for a batch of this `index` (B,) int64."""
    return kernels.can_run(index.device) and 0 < len(index) <= MOST_ROWS and fault_of(index.device) is None


def visit(index: Tensor, observed: Tensor, table: Table, alpha: float, *, is_post: bool, skips: bool) -> None:
    """Count one visit for each row, in order, as `SampleStatistics.update` does, also of samples that occur twice.

    Args:
        index: (B,) int64, −1 where nothing was observed.
        observed: (B, 2) float32, uncertainty and inconsistency.
        table: of the statistics; changed in place.
        alpha: weight of the new observation.
        is_post: deviations are taken from the updated mean.
        skips: values that are not finite are no fault.
    """
    from assl_lightning.method import score_kernels  # imports Triton

    values, visits, updates, fault, fault_values = table
    kernels.launch(
        score_kernels.visit_rows,
        len(index),
        *(index, observed, values, visits, updates, fault, fault_values),
        *(len(index), len(visits) - 1, alpha, 1 - alpha),
        IS_POST=is_post,
        SKIPS=skips,
        BLOCK=_power_of_2(len(index)),
        num_warps=4,
    )


def _fits(logits: Tensor) -> bool:
    has_shape = logits.ndim == 2 and 2 <= logits.shape[1] <= MOST_CLASSES and len(logits) > 0
    has_type = logits.dtype in (torch.float32, torch.bfloat16, torch.float16)
    return has_shape and has_type and logits.is_contiguous() and not logits.requires_grad


def _score(weak: Tensor, strong: Tensor | None) -> Tensor:
    """Return (B, 2) float32: Eq. 1 and Eq. 4, or 0 without a strong view."""
    from assl_lightning.method import score_kernels  # imports Triton

    observed = torch.empty(len(weak), 2, dtype=torch.float32, device=weak.device)
    other = weak if strong is None else strong
    constants = {"HAS_STRONG": strong is not None, "BLOCK": _power_of_2(weak.shape[1])}
    kernels.launch(score_kernels.score_rows, len(weak), weak, other, observed, weak.shape[1], **constants, num_warps=1)
    return observed


def _power_of_2(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


@cache
@torch.no_grad()
def fault_of(device: torch.device) -> str | None:
    """Return how the kernels differ from torch's operators on `device`, which is logged as a warning; None: not."""
    row = torch.arange(64, device=device)
    spread = Draws(0, row).uniform(range(20)) - 0.5
    weak, strong = (spread * 10 ** (row % 3)[:, None].float()).split(10, dim=1)
    weak, strong = weak.contiguous(), strong.contiguous()
    expected = torch.stack([scores.pseudo_el2n(weak), scores.symmetric_kl(weak, strong)], dim=1)
    index = torch.where(row % 5 == 0, 3, row) - 1
    tables = [_new_table(64, device) for _ in range(2)]
    try:
        scored = _score(weak, strong)
        for _ in range(2):
            visit(index, expected, tables[0], 0.8, is_post=True, skips=False)
    except Exception as error:  # Triton raises errors of many kinds, of its own and of the compilers that it starts
        fault = f"cannot run here ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    else:
        for _ in range(2):
            _visit_one_by_one(index, expected, tables[1])
        pairs = [(scored, expected), *zip(tables[0], tables[1], strict=True)]
        if all(torch.allclose(mine.float(), other.float(), rtol=1e-4, atol=1e-30) for mine, other in pairs):
            return None
        fault = "gives other numbers than the operators do"
    log.warning("scores are computed by torch's operators, in about ninety launches a step: the kernel %s", fault)
    return fault


def _new_table(num_samples: int, device: torch.device) -> Table:
    return (
        torch.zeros(num_samples + 1, 4, device=device),
        torch.zeros(num_samples + 1, dtype=torch.int32, device=device),
        torch.zeros((), dtype=torch.int64, device=device),
        torch.full((2,), -1, dtype=torch.int64, device=device),
        torch.zeros(2, device=device),
    )


def _visit_one_by_one(index: Tensor, observed: Tensor, table: Table) -> None:
    """Visit with α = 0.8, as the paper prints it (Eq. 3 and 5)."""
    values, visits, updates, *_ = table
    updates += 1
    for place, sample in enumerate(index.tolist()):
        if sample < 0:
            continue
        mean = 0.8 * observed[place] + (1 - 0.8) * values[sample, :2]
        variance = 0.8 * (observed[place] - mean).square() + (1 - 0.8) * values[sample, 2:]
        values[sample] = torch.cat([mean, variance])
        visits[sample] += 1
