"""Images that show little: empty ones, and ones that are far less sharp than the others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EMPTY = 2.0
"""Standard deviation in grey levels of 256, below which an image counts as empty."""

BLURRED = 0.05
"""Share of the median sharpness, below which an image counts as blurred."""

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def contrast_and_sharpness(images: Tensor) -> tuple[Tensor, Tensor]:
    """Measure images (n, channels, height, width) uint8, as training sees them.

    Returns:
        contrast (n,) float64: the standard deviation of the grey levels, in [0, 127.5].
        sharpness (n,) float64: the variance of their Laplacian, ≥ 0, smaller if blurred (Pech-Pacheco et al. 2000). It
        depends on the size of the images and on what they show, so that only images of one pool are compared.
    """
    pixels = images.double()
    weights = torch.tensor(_LUMA, dtype=torch.float64) if images.shape[1] == 3 else torch.ones(images.shape[1]).double()
    grey = torch.einsum("nchw,c->nhw", pixels, weights / weights.sum())
    kernel = torch.tensor(_LAPLACIAN, dtype=torch.float64)[None, None]
    edges = F.conv2d(F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate"), kernel)
    return grey.flatten(1).std(1, correction=0), edges.flatten(1).var(1, correction=0)


def find_empty_and_blurred(contrast: Tensor, sharpness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return which of N images are empty (N,) bool, which others are blurred, and each one's share of the sharpness.

    Empty: a contrast below `EMPTY`. Blurred: a sharpness below `BLURRED` times the median over the images that are not
    empty; this finds the odd ones among sharp images, and none in a pool that is blurred as a whole.
    """
    is_empty = contrast < EMPTY
    others = sharpness[~is_empty]
    share = sharpness / others.median().clamp(min=1e-12) if len(others) else torch.ones_like(sharpness)
    return is_empty, ~is_empty & (share < BLURRED), share
