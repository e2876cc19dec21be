"""Normalise bytes to the input of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalise:
    """(x / 255 − mean) / std per channel; `mean` and `std` are in units of the full range, as torchvision's are.

    Raises ValueError if the two differ in length, a number is not finite, a std is not positive, or the images have
    another number of channels.

    >>> Normalise(mean=(0.5,), std=(0.25,))(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    tensor([[[[-2.,  2.]]]])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                f"Normalise needs one mean and one std per channel; got {len(self.mean)} means and {len(self.std)} stds"
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"Normalise.mean must be finite; got {self.mean}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ValueError(f"Normalise.std must be positive and finite; got {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """`images` (B, channels, H, W) uint8 → the same shape, float32."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"Normalise takes uint8 images of shape (B, {len(self.mean)}, height, width), one channel per mean; "
                f"got {images.dtype} of shape {tuple(images.shape)}"
            )
        normalised = images.to(torch.float32).div_(255)
        # Python numbers travel with the kernel's launch; a tensor of means would be a copy from the host in each step.
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            normalised[:, channel].sub_(mean).div_(std)
        return normalised
