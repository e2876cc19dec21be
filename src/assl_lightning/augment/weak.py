"""FixMatch's weak view: a horizontal flip and a shifted crop, each sample its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, unique
from functools import lru_cache

import torch
from torch import Tensor

from assl_lightning.augment.plans import Plan, plan_for
from assl_lightning.base.seeding import Draws


@unique
class WeakSlot(IntEnum):
    """Draws of a row's weak view; slots from 16 up are the strong view's."""

    FLIP = 0
    CROP_TOP = 1
    CROP_LEFT = 2


@dataclass(frozen=True)
class WeakAugment:
    """Horizontal flip with probability 1/2, then a crop of the image's own size out of the reflect-padded image.

    The padding is int(size · `pad_fraction`) pixels on each side of an axis, by that axis' own size: 4 at 32, 10 at 84.
    `flip=False` leaves the flip out, as FixMatch does for SVHN's digits; the crops stay the same.

    Sohn et al. 2020, §2.3. Raises ValueError on a `pad_fraction` outside [0, 1): a side reflects at most size − 1
    pixels; and on a batch that is not uint8 images with a row of draws for each.

    >>> from assl_lightning.base.seeding import Draws, derive_key
    >>> images = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32).to(torch.uint8)
    >>> WeakAugment()(images, Draws(derive_key(0, "weak", 0), torch.arange(2))).shape
    torch.Size([2, 3, 32, 32])
    """

    flip: bool = True
    pad_fraction: float = 0.125

    def __post_init__(self) -> None:
        if not isinstance(self.flip, bool):
            raise TypeError(f"WeakAugment.flip must be true or false; got {self.flip!r}")
        if not isinstance(self.pad_fraction, (int, float)) or not 0 <= self.pad_fraction < 1:
            raise ValueError(
                f"WeakAugment.pad_fraction must lie in [0, 1), a share of the image's side; got {self.pad_fraction!r}"
            )

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """`images` (B, channels, H, W) uint8 → the same shape and type; `draws` has one row per image."""
        check_batch(images, draws)
        return self._view(images, draws, plan_for(images.device))

    def _view(self, images: Tensor, draws: Draws, plan: Plan) -> Tensor:
        draws = draws.prefetch(tuple(WeakSlot))
        height, width = images.shape[-2:]
        rows = _crops(height, int(height * self.pad_fraction), False, images.device)
        columns = _crops(width, int(width * self.pad_fraction), self.flip, images.device)
        top = draws.integers(WeakSlot.CROP_TOP, len(rows))
        left = draws.integers(WeakSlot.CROP_LEFT, len(columns) // (1 + self.flip))
        if self.flip:
            left = 2 * left + draws.bernoulli(WeakSlot.FLIP, 0.5)
        return plan.crop(images, rows.index_select(0, top), columns.index_select(0, left))


def check_batch(images: Tensor, draws: Draws) -> None:
    """Raise unless `images` are (B, 1 or 3, H, W) uint8 and `draws` has B rows on the same device."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise ValueError(
            f"augmentation takes uint8 images of shape (B, 1 or 3, height, width), before they are normalised; "
            f"got {images.dtype} of shape {tuple(images.shape)}"
        )
    if len(draws) != len(images) or draws.row.device != images.device:
        raise ValueError(
            f"augmentation needs one row of draws per image, on the images' device; "
            f"got {len(draws)} rows on {draws.row.device} for {len(images)} images on {images.device}"
        )


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _crops(size: int, padding: int, flip: bool, device: torch.device) -> Tensor:
    """Return the source indices of each crop along one axis, (2 · padding + 1, size) int32.

    Edges are reflected without repetition. With `flip`, each crop is followed by the same crop of the flipped image:
    (2 · (2 · padding + 1), size). Cached per device: to make them in every step would copy from the host in every step.
    """
    last = size - 1
    position = torch.arange(size) + torch.arange(-padding, padding + 1)[:, None]
    crops = last - (last - position.abs()).abs()
    return (torch.stack([crops, last - crops], dim=1).flatten(0, 1) if flip else crops).to(device, torch.int32)
