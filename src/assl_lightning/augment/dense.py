"""Compute the views of a batch in tensors: every operation for every row, of which each row selects one.

No shape depends on data and no value is read on the host, so that a GPU is never waited for; no tensor is float64,
which some devices lack. Operations of one kind share one function, a *family*. One family moves pixels; two blend an
image with a poorer version of it; four make a table each that maps grey levels, and all tables are applied together.
Symbols are those of `ops`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from assl_lightning.augment.ops import (
    CURVES,
    CUTOUT_GREY,
    GEOMETRIC,
    MAX_MAGNITUDE,
    OPERATIONS,
    blend,
    curves,
    factors,
    sources,
    stretches,
)

Family = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # images, code, magnitude, sign → images
LevelFamily = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # images, their levels, code, magnitude → tables


def crop(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`Plan.crop`: one gather."""
    index = rows[:, :, None] * images.shape[3] + columns[:, None, :]  # (b, h, w): index of the source pixel
    index = index.long().flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view_as(images)


def change(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """`Plan.change`, into new memory."""
    changed = images
    for names, family in _FAMILIES:
        chosen = _is_one_of(code, names)[:, None, None, None]
        changed = torch.where(chosen, family(images, code, magnitude, sign), changed)
    levels = images.flatten(2).long()
    tables = torch.arange(256, dtype=torch.uint8, device=images.device).expand(*levels.shape[:2], 256)
    for names, level_family in _LEVEL_FAMILIES:
        chosen = _is_one_of(code, names)[:, None, None]
        tables = torch.where(chosen, level_family(images, levels, code, magnitude), tables)
    leveled = tables.gather(2, levels).view_as(images)
    has_table = code >= OPERATIONS.index(_LEVEL_FAMILIES[0][0][0])
    return torch.where(has_table[:, None, None, None], leveled, changed)


def cut_out(images: Tensor, first_y: Tensor, first_x: Tensor, side_y: int, side_x: int) -> Tensor:
    """`Plan.cut_out`, in place."""
    y, x = (torch.arange(size, device=images.device) for size in images.shape[-2:])
    in_rows = (first_y[:, None] <= y) & (y <= first_y[:, None] + side_y)  # (b, h)
    in_columns = (first_x[:, None] <= x) & (x <= first_x[:, None] + side_x)  # (b, w)
    return images.masked_fill_((in_rows[:, :, None] & in_columns[:, None, :])[:, None], CUTOUT_GREY)


def _is_one_of(code: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return (b,) bool; the members of a family are neighbours in `OPERATIONS`."""
    return (OPERATIONS.index(names[0]) <= code) & (code <= OPERATIONS.index(names[-1]))


def _member(code: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return the (b,) int64 index of the operation within its family; in range for rows of other families, too."""
    return (code - OPERATIONS.index(names[0])).clamp(0, len(names) - 1)


def _move(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Rotate, shear and translate by one gather, with PIL's 16.16 fixed point."""
    source, inside = sources(*images.shape[-2:], images.device)
    motion = _member(code, GEOMETRIC) * (2 * MAX_MAGNITUDE + 1) + MAX_MAGNITUDE + sign * magnitude
    index = source.index_select(0, motion)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, index).mul_(inside.index_select(0, motion)[:, None])
    return moved.view_as(images)


# ---- level by level: tables (b, c or 1, 256) uint8 of what becomes of each grey level -------------------------------


def _curve(images: Tensor, _levels: Tensor, code: Tensor, magnitude: Tensor) -> Tensor:
    """Look up the tables of Brightness, Posterize and Solarize, which follow from the magnitude alone."""
    curve = _member(code, CURVES) * (MAX_MAGNITUDE + 1) + magnitude
    return curves(images.device).index_select(0, curve)[:, None]


def _autocontrast(images: Tensor, _levels: Tensor, _code: Tensor, _magnitude: Tensor) -> Tensor:
    """Stretch the levels in use to 0 … 255, channel by channel."""
    darkest, brightest = images.flatten(2).amin(2).int(), images.flatten(2).amax(2).int()  # (b, c)
    tables = stretches(images.device).index_select(0, (darkest * 256 + brightest).flatten())
    return tables.view(*darkest.shape, 256)


def _equalize(images: Tensor, levels: Tensor, _code: Tensor, _magnitude: Tensor) -> Tensor:
    """Spread the levels of each channel so that each is used about equally often."""
    one = torch.ones((), dtype=torch.int32, device=images.device)
    histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, levels, one.expand_as(levels))
    of_brightest = histogram.gather(2, images.flatten(2).amax(2, keepdim=True).long())
    step = (levels.shape[2] - of_brightest) // 255  # (b, c, 1); 0 where there is one level, or too few pixels
    darker = histogram.cumsum(2, dtype=torch.int32) - histogram
    spread = ((darker + step // 2) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    level = torch.arange(256, dtype=torch.uint8, device=images.device)
    return torch.where(step > 0, spread, level)


def _contrast(images: Tensor, _levels: Tensor, _code: Tensor, magnitude: Tensor) -> Tensor:
    """Blend with the mean grey of the whole image, rounded half up."""
    pixels = images.shape[-2] * images.shape[-1]
    mean = (2 * _grey(images).sum((1, 2, 3)) + pixels) // (2 * pixels)  # (b,)
    level = torch.arange(256, device=images.device)
    table = blend(mean[:, None], level, _factors_of(magnitude)[:, None])  # (b, 256)
    return table[:, None]


# ---- PIL's ImageEnhance: a blend with a degenerate image -----------------------------------------------------------


def _color(images: Tensor, _code: Tensor, magnitude: Tensor, _sign: Tensor) -> Tensor:
    """Blend with grey. Images of one channel stay as they are."""
    if images.shape[1] == 1:
        return images
    return blend(_grey(images), images, _factors_of(magnitude)[:, None, None, None])


def _sharpness(images: Tensor, _code: Tensor, magnitude: Tensor, _sign: Tensor) -> Tensor:
    """Blend with PIL's SMOOTH: a 3 × 3 mean with weight 5 in the centre and 1 around it. Border pixels stay."""
    height, width = images.shape[-2:]
    changed = images.clone(memory_format=torch.contiguous_format)  # flatten(2), which is written to, must be a view
    if min(height, width) < 3:
        return changed
    # Rows are put end to end, so that every step is one long run. Sums that wrap to the next row are on the border.
    sharp = images.flatten(2).float()
    columns = (sharp[..., : -2 * width] + sharp[..., width:-width]).add_(sharp[..., 2 * width :])
    centre = sharp[..., width + 1 : -width - 1]
    total = (columns[..., :-2] + columns[..., 1:-1]).add_(columns[..., 2:]).add_(centre, alpha=4)
    # total / 13 is never within 1/26 of a half, so that no order of rounding, and no reciprocal of 13, changes it
    smooth = total.div_(13).add_(0.5).floor_()
    changed.flatten(2)[..., width + 1 : -width - 1] = blend(smooth, centre, _factors_of(magnitude)[:, None, None])
    changed[..., 0], changed[..., -1] = images[..., 0], images[..., -1]
    return changed


def _factors_of(magnitude: Tensor) -> Tensor:
    """Return (b,) float32, the share of the original image that stays."""
    return factors(magnitude.device).index_select(0, magnitude)


def _grey(images: Tensor) -> Tensor:
    """Return (b, 1, h, w) int32 as PIL's convert("L") does: ITU-R 601 luma in 1/65536."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, dim=1)
    grey: Tensor = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768)
    return grey >> 16


# ---- who belongs to which family -----------------------------------------------------------------------------------

_FAMILIES: tuple[tuple[tuple[str, ...], Family], ...] = (
    (GEOMETRIC, _move),
    (("Color",), _color),
    (("Sharpness",), _sharpness),
)
_LEVEL_FAMILIES: tuple[tuple[tuple[str, ...], LevelFamily], ...] = (
    (CURVES, _curve),
    (("AutoContrast",), _autocontrast),
    (("Equalize",), _equalize),
    (("Contrast",), _contrast),
)
