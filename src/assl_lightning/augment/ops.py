"""RandAugment's operations for both plans of the augmentation: names, codes, and tables by magnitude.

Each equals PIL's in every bit; `dense` and `compiled` hold the arithmetic. Here is what needs no image: where a pixel
comes from, what becomes of a grey level, how much of the image a blend keeps, all as tables for a size and a device.

Symbols: b rows, c channels (1 = PIL's "L", 3 = "RGB"), h × w pixels, v the magnitude in 1 … 10. The ranges are those of
FixMatch's RandAugment (Sohn et al. 2020, the list of transformations in the appendix), as its PyTorch port by kekmodel
reads them. "PIL" is Pillow on x86-64, for sides up to 16384, beyond which its affine transform leaves fixed point.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

MAX_MAGNITUDE = 10
CUTOUT_GREY = 127
FIXMATCH_OPS = (
    "AutoContrast",
    "Brightness",
    "Color",
    "Contrast",
    "Equalize",
    "Identity",
    "Posterize",
    "Rotate",
    "Sharpness",
    "ShearX",
    "ShearY",
    "Solarize",
    "TranslateX",
    "TranslateY",
)
"""Names of the 14 operations that a strong view draws from."""
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
CURVES = ("Brightness", "Posterize", "Solarize")

# A row's code is its operation's index here; those of one kind are neighbours, and those with a table come last.
OPERATIONS: tuple[str, ...] = (
    *("Identity", *GEOMETRIC, "Color", "Sharpness"),
    *(*CURVES, "AutoContrast", "Equalize", "Contrast"),  # these only map each grey level to another
)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def sources(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the index of each pixel's source, (motions, h · w) int64, and 1 if it is in the image, else 0, uint8.

    In the order of `matrices`, and black outside. 1 MB at 32 pixels, 7 MB at 84.
    """
    xx, xy, x0, yx, yy, y0 = matrices(height, width)[:, :, None, None].unbind(1)
    x, y = torch.arange(width, dtype=torch.int32), torch.arange(height, dtype=torch.int32)[:, None]
    source_x = (xx * x + (xy * y + x0)) >> 16  # (motions, h, w)
    source_y = (yx * x + (yy * y + y0)) >> 16
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    index = torch.where(inside, source_y * width + source_x, 0).long()
    return index.flatten(1).to(device), inside.to(torch.uint8).flatten(1).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def matrices(height: int, width: int) -> Tensor:
    """(motions, 6) int32 on the CPU: where pixel (x, y) comes from, in 1/65536 of a pixel.

    Source x is (xx · x + xy · y + x0) >> 16, source y (yx · x + yy · y + y0) >> 16: PIL's Image.transform(AFFINE,
    NEAREST) and Image.rotate. A motion is a geometric operation with a signed magnitude −10 … 10: 105 of them, by
    operation, then by magnitude.
    """
    signed = range(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1)
    fixed = [_fixed_point(_matrix(name, v, height, width)) for name in GEOMETRIC for v in signed]
    return torch.tensor(fixed, dtype=torch.int32)


def _matrix(name: str, v: int, height: int, width: int) -> tuple[float, ...]:
    """(xx, xy, x0, yx, yy, y0): source x = xx · x + xy · y + x0, and y likewise, as the reference hands it to PIL."""
    if name == "ShearX":
        return 1.0, v * 0.3 / 10, 0.0, 0.0, 1.0, 0.0
    if name == "ShearY":
        return 1.0, 0.0, 0.0, v * 0.3 / 10, 1.0, 0.0
    if name == "TranslateX":
        return 1.0, 0.0, int(v * 0.3 / 10 * width), 0.0, 1.0, 0.0
    if name == "TranslateY":
        return 1.0, 0.0, 0.0, 0.0, 1.0, int(v * 0.3 / 10 * height)
    angle = -math.radians(int(v * 30 / 10))  # degrees counter-clockwise, about the image's centre
    cos, sin = math.cos(angle), math.sin(angle)
    centre_x, centre_y = width / 2, height / 2
    x0 = cos * -centre_x + sin * -centre_y + centre_x
    y0 = -sin * -centre_x + cos * -centre_y + centre_y
    return cos, sin, x0, -sin, cos, y0


def _fixed_point(matrix: tuple[float, ...]) -> list[int]:
    """The matrix in 1/65536, with the half pixel that leads from a pixel's corner to its centre."""
    xx, xy, x0, yx, yy, y0 = matrix
    centred = (xx, xy, x0 + xx * 0.5 + xy * 0.5, yx, yy, y0 + yx * 0.5 + yy * 0.5)
    return [math.floor(entry * 65536 + 0.5) for entry in centred]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def curves(device: torch.device) -> Tensor:
    """(33, 256) uint8: what becomes of each grey level, by operation of `CURVES`, then by magnitude 0 … 10."""
    level = torch.arange(256)
    tables = torch.empty(len(CURVES), MAX_MAGNITUDE + 1, 256, dtype=torch.uint8)
    for v in range(MAX_MAGNITUDE + 1):
        bits = int(v * 4 / 10) + 4
        threshold = 256 - int(v * 256 / 10)
        tables[CURVES.index("Brightness"), v] = blend(torch.zeros(256), level, factors(torch.device("cpu"))[v])
        tables[CURVES.index("Posterize"), v] = level & ~(2 ** (8 - bits) - 1)
        tables[CURVES.index("Solarize"), v] = torch.where(level < threshold, level, 255 - level)
    return tables.flatten(0, 1).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def stretches(device: torch.device) -> Tensor:
    """(65536, 256) uint8: AutoContrast's result for each grey level, in row 256 · darkest + brightest level in use.

    16 MB. In float64 on the CPU, as PIL's Python code computes it: float32 would round some levels to another one, and
    not every device has float64. Levels that are not in use, and images of one level, stay as they are.
    """
    level = torch.arange(256, dtype=torch.float64)
    darkest, brightest = level[:, None, None], level[:, None]
    span = brightest - darkest  # (256, 256, 1)
    scale = torch.full_like(span, 255) / span.clamp(min=1)  # `255 / span` would be 255 · (1 / span), rounded twice
    stretched = (level * scale + -darkest * scale).clamp(0, 255)
    return torch.where(span > 0, stretched, level).to(torch.uint8).flatten(0, 1).to(device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def factors(device: torch.device) -> Tensor:
    """(11,) float32, the share of the original image that a blend keeps at magnitude 0 … 10; 0.14 at 1, 0.95 at 10."""
    return torch.tensor([v * 0.9 / 10 + 0.05 for v in range(MAX_MAGNITUDE + 1)], dtype=torch.float32, device=device)


def blend(degenerate: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """Blend to uint8 as PIL's Image.blend does. Product and sum are rounded apart: a fused `lerp` would differ."""
    degenerate = degenerate.float()
    return (pixels.float() - degenerate).mul_(factor).add_(degenerate).to(torch.uint8)
