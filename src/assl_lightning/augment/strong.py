"""FixMatch's strong view: a weak view of its own, RandAugment, then Cutout, each sample its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, unique
from functools import lru_cache

import torch
from torch import Tensor

from assl_lightning.augment.ops import FIXMATCH_OPS, MAX_MAGNITUDE, OPERATIONS
from assl_lightning.augment.plans import Plan, plan_for
from assl_lightning.augment.weak import WeakAugment, WeakSlot, check_batch
from assl_lightning.base.seeding import Draws


@unique
class StrongSlot(IntEnum):
    """Draws of a row's strong view, beside those of its weak view.

    From OPERATION on they belong to the first operation; each further operation has the next `SLOTS_PER_OPERATION`.
    """

    CUTOUT_Y = 16
    CUTOUT_X = 17
    OPERATION = 32
    MAGNITUDE = 33
    APPLIED = 34
    SIGN = 35


SLOTS_PER_OPERATION = 4


@dataclass(frozen=True)
class StrongAugment:
    """A weak view, then `num_ops` operations out of `ops`, then a grey box.

    Each operation is drawn with replacement and applied with `op_probability`; its magnitude v is uniform in
    1 … `max_magnitude`, and its sign is + or − with probability 1/2 where it has one. v = 10 is the full range of
    FixMatch's table; the reference code's upper bound is exclusive, so that 10 never occurs: hence the default of 9.
    The box is always drawn: its centre is uniform on the image, its side is int(size · `cutout_fraction`) by each axis'
    own size, plus one pixel, since PIL's rectangles include both corners; a box over the left or top edge is moved
    inside, one over the right or bottom edge is cut off. `cutout_fraction=0` draws none.

    Give it draws with another key than the weak view's, or both views crop alike.

    Sohn et al. 2020, §2.3; Cubuk et al. 2020 (RandAugment); DeVries and Taylor 2017 (Cutout). Raises ValueError or
    TypeError on settings out of range, with the field's name.

    >>> from assl_lightning.base.seeding import Draws, derive_key
    >>> images = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32).to(torch.uint8)
    >>> StrongAugment()(images, Draws(derive_key(0, "strong", 0), torch.arange(2))).shape
    torch.Size([2, 3, 32, 32])
    """

    weak: WeakAugment = field(default_factory=WeakAugment)
    num_ops: int = 2
    max_magnitude: int = 9
    op_probability: float = 0.5
    cutout_fraction: float = 0.5
    ops: tuple[str, ...] = FIXMATCH_OPS

    def __post_init__(self) -> None:
        if not callable(self.weak):
            raise TypeError(f"StrongAugment.weak must be a WeakAugment, or called like one; got {self.weak!r}")
        if not isinstance(self.num_ops, int) or self.num_ops < 0:
            raise ValueError(f"StrongAugment.num_ops must be a whole number from 0 up; got {self.num_ops!r}")
        if not isinstance(self.max_magnitude, int) or not 1 <= self.max_magnitude <= MAX_MAGNITUDE:
            raise ValueError(
                f"StrongAugment.max_magnitude must be a whole number from 1 to {MAX_MAGNITUDE}; "
                f"got {self.max_magnitude!r}"
            )
        for name in ("op_probability", "cutout_fraction"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"StrongAugment.{name} must lie in [0, 1]; got {value!r}")
        if isinstance(self.ops, str):
            raise TypeError(f"StrongAugment.ops must be a list of operations' names; got the one string {self.ops!r}")
        names = tuple(self.ops)  # a configuration hands over a list of its own kind
        unknown = [name for name in names if name not in OPERATIONS]
        if unknown or not names:
            raise ValueError(
                f"StrongAugment.ops must name one or more of {', '.join(FIXMATCH_OPS)}; "
                f"got {', '.join(map(repr, unknown)) or 'none'}"
            )
        object.__setattr__(self, "ops", names)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """`images` (B, channels, H, W) uint8 → the same shape and type; `draws` has one row per image."""
        return self._view(images, draws, plan_for(images.device))

    def _view(self, images: Tensor, draws: Draws, plan: Plan) -> Tensor:
        draws = draws.prefetch([*WeakSlot, StrongSlot.CUTOUT_Y, StrongSlot.CUTOUT_X, *self._operation_slots()])
        views = self.weak(images, draws)
        if type(self.weak) is not WeakAugment:  # another may return its input, or a tensor that it keeps
            check_batch(views, draws)
            views = views.clone(memory_format=torch.contiguous_format)
        for code, magnitude, sign in zip(*(drawn.unbind(1) for drawn in self._draw_operations(draws)), strict=True):
            views = plan.change(views, code, magnitude, sign)
        return self._cutout(views, draws, plan) if self.cutout_fraction else views

    def _draw_operations(self, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Draw code, magnitude and sign of each row's operations, (B, num_ops) int64 each."""
        slots = self._operation_slots()
        operation, magnitude, applied, sign = (slots[i * self.num_ops : (i + 1) * self.num_ops] for i in range(4))
        drawn = draws.integers(operation, len(self.ops))
        code = _codes(self.ops, draws.row.device)[drawn] * draws.bernoulli(applied, self.op_probability)  # 0: Identity
        return code, 1 + draws.integers(magnitude, self.max_magnitude), 1 - 2 * draws.integers(sign, 2)

    def _operation_slots(self) -> list[int]:
        """Return the slots of all operations' names, then of all magnitudes, applications and signs."""
        firsts = (StrongSlot.OPERATION, StrongSlot.MAGNITUDE, StrongSlot.APPLIED, StrongSlot.SIGN)
        return [first + position * SLOTS_PER_OPERATION for first in firsts for position in range(self.num_ops)]

    def _cutout(self, views: Tensor, draws: Draws, plan: Plan) -> Tensor:
        sides = [int(size * self.cutout_fraction) for size in views.shape[-2:]]
        # A centre is a multiple of 2⁻²⁴ of the size, half a side one of 1/2: in 2⁻²⁵ pixels, all steps are exact.
        centres = (draws.uniform((StrongSlot.CUTOUT_Y, StrongSlot.CUTOUT_X)) * 2**24).long().unbind(1)
        first_y, first_x = (
            ((2 * size * centre - (side << 24)) >> 25).clamp(min=0)
            for centre, size, side in zip(centres, views.shape[-2:], sides, strict=True)
        )
        return plan.cut_out(views, first_y, first_x, *sides)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _codes(names: tuple[str, ...], device: torch.device) -> Tensor:
    """Return (len(names),) int64, each operation's code. Cached per device: a copy in every step would wait."""
    return torch.tensor([OPERATIONS.index(name) for name in names], device=device)
