"""All views of a step in one launch on a CUDA device, the third way to compute them beside `dense` and `compiled`.

What a view is stands in `weak`, `strong` and `normalise`. In Triton's interpreter on a CPU the kernel has the bits of
`dense`. It has not met a GPU yet: therefore it is compared with `dense` on each device before it is used there. On CUDA
torch divides by a number as it multiplies by its reciprocal, so that the last bit of a normalised pixel may differ.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assl_lightning.augment import dense, ops
from assl_lightning.augment.normalise import Normalise
from assl_lightning.augment.strong import StrongAugment, _codes
from assl_lightning.augment.weak import WeakAugment
from assl_lightning.base import kernels
from assl_lightning.base.seeding import Draws, derive_key

log = logging.getLogger(__name__)

MOST_PIXELS = 4096
"""Of an image whose channels a program holds in its registers; larger ones go the dense way."""

_TRIED = 256  # images of the comparison, so that every operation is drawn
_PIXELS_PER_WARP = 256


@dataclass(frozen=True)
class Rows:
    """Images of the pool, and the draws of their views."""

    index: Tensor  # (b,) int64, positions in the pool
    draws: Draws  # a row for each


class StepViews(NamedTuple):
    """Normalised float32 views (b, channels, height, width) of a step."""

    labelled: Tensor
    weak: Tensor
    strong: Tensor


@dataclass(frozen=True)
class FusedViews:
    """The views of a step: `weak` and `strong`, whose crops are those of `weak` too, normalised.

    Args:
        weak: of the unlabelled images, and of the labelled ones if `augments_labelled`.
        strong: of the unlabelled images.
        normalise: bytes → float32.
        augments_labelled: False: the labelled images as they are.
        channels_last: the views' order in memory, as `torch.channels_last`; else contiguous.
    """

    weak: WeakAugment
    strong: StrongAugment
    normalise: Normalise
    augments_labelled: bool
    channels_last: bool = False

    def __call__(self, pool: Tensor, labelled: Rows, unlabelled: Rows, strong: Draws) -> StepViews:
        """Return the views of `labelled`, and the weak and strong ones of `unlabelled`; `pool` (N, c, h, w) uint8.

        `strong` has the draws of the strong views, with the rows of `unlabelled`.
        """
        from assl_lightning.augment import fused_kernel  # imports Triton

        channels, height, width = pool.shape[1:]
        sizes = [len(labelled.index), len(unlabelled.index), len(unlabelled.index)]
        views = torch.empty(
            (sum(sizes), channels, height, width),
            dtype=torch.float32,
            device=pool.device,
            memory_format=torch.channels_last if self.channels_last else torch.contiguous_format,
        )
        sides = [int(size * self.strong.cutout_fraction) for size in (height, width)]
        padding = [int(size * self.weak.pad_fraction) for size in (height, width)]
        block = max(256, 1 << (height * width - 1).bit_length())
        kernels.launch(
            fused_kernel.make_views,
            len(views),
            pool,
            *(labelled.index, labelled.draws.row, unlabelled.index, unlabelled.draws.row),
            *(labelled.draws.key, unlabelled.draws.key, strong.key),
            *sizes[:2],
            _codes(self.strong.ops, pool.device),
            _matrices(height, width, pool.device),
            ops.curves(pool.device),
            ops.stretches(pool.device),
            ops.factors(pool.device),
            _moments(self.normalise, pool.device),
            views,
            C=channels,
            H=height,
            W=width,
            BLOCK=block,
            AUGMENTS_LABELLED=self.augments_labelled,
            FLIP=self.weak.flip,
            PAD_Y=padding[0],
            PAD_X=padding[1],
            NUM_OPS=self.strong.num_ops,
            NUM_CODES=len(self.strong.ops),
            LARGEST=self.strong.max_magnitude,
            PROBABILITY=self.strong.op_probability,
            HAS_BOX=self.strong.cutout_fraction > 0,
            SIDE_Y=sides[0],
            SIDE_X=sides[1],
            CHANNELS_LAST=self.channels_last,
            num_warps=min(16, max(2, block // _PIXELS_PER_WARP)),
        )
        return StepViews(*views.split(sizes))

    def with_dense(self, pool: Tensor, labelled: Rows, unlabelled: Rows, strong: Draws) -> StepViews:
        """Return the same views, made by the dense plan."""
        plain, images = pool[labelled.index], pool[unlabelled.index]
        of_labelled = self.weak._view(plain, labelled.draws, dense) if self.augments_labelled else plain
        made = (of_labelled, self.weak._view(images, unlabelled.draws, dense), self.strong._view(images, strong, dense))
        return StepViews(*map(self.normalise, made))


def fused_views(
    pool: Tensor, weak: Any, strong: Any, normalise: Any, augments_labelled: bool, *, channels_last: bool = False
) -> FusedViews | None:
    """Return the fused views of a pool (N, c, h, w) uint8 with these settings; None where they cannot be had.

    They need a CUDA device with Triton, images of at most `MOST_PIXELS`, and this package's own classes, with the same
    crop for both views. On a device on which the kernel fails, or gives anything else than the dense plan, a warning
    says so once.
    """
    if not kernels.can_run(pool.device) or type(weak) is not WeakAugment or type(strong) is not StrongAugment:
        return None
    if strong.weak != weak or type(normalise) is not Normalise or len(normalise.mean) != pool.shape[1]:
        return None
    if pool.shape[2] * pool.shape[3] > MOST_PIXELS or not pool.is_contiguous() or not len(pool):
        return None
    views = FusedViews(weak, strong, normalise, augments_labelled, channels_last)
    fault = _fault_of(views, tuple(pool.shape[1:]), pool.device)
    return views if fault is None else None


@lru_cache(maxsize=64)
@torch.no_grad()
def _fault_of(views: FusedViews, shape: tuple[int, ...], device: torch.device) -> str | None:
    """Return how the kernel's views differ from the dense plan's on this device, as a warning has it; None: not."""
    row = torch.arange(_TRIED, device=device)
    # keys of 63 bits, as in a step: Triton compiles a kernel for each width of its whole numbers
    levels, *draws = (Draws(derive_key(number, "trial of the fused views"), row) for number in range(4))
    pixels = levels.integers(range(shape[0] * shape[1] * shape[2]), 256) // (1 + row % 3)[:, None]
    pool = pixels.to(torch.uint8).view(_TRIED, *shape)
    rows = (Rows(row, draws[0]), Rows(row.flip(0), draws[1]), draws[2])
    try:
        pairs = zip(views(pool, *rows), views.with_dense(pool, *rows), strict=True)
        most = 0.1 / 255 / max(views.normalise.std)  # a tenth of a grey level; NaN is no less
        are_near = [bool(((mine - other).abs() < most).all()) for mine, other in pairs]
    except Exception as error:  # Triton raises errors of many kinds, of its own and of the compilers that it starts
        fault = f"cannot run here ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
    else:
        if all(are_near):
            return None
        fault = "makes other images than the operators do"
    log.warning("the views are made by torch's operators, in hundreds of launches a step: the kernel %s", fault)
    return fault


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _matrices(height: int, width: int, device: torch.device) -> Tensor:
    return ops.matrices(height, width).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _moments(normalise: Normalise, device: torch.device) -> Tensor:
    return torch.tensor([normalise.mean, normalise.std], dtype=torch.float32, device=device)
