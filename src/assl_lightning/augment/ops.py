"""RandAugment's operations on a batch, each sample with its own magnitude, each equal to PIL's in every bit.

Operations of one kind share one function, a *family*, which is told row by row which operation is meant. Three
kinds of families: one moves pixels; four make a table each that says what becomes of every grey level, all of which are
looked up together; two blend an image with a poorer one. Two plans send the rows of a batch through them and give the
same bits: `apply_grouped` computes only the rows that need a family, and has to look at the codes for it; `apply_dense`
computes every family for every row and selects, so that a GPU is never waited for.

Symbols: b rows, c channels (1 = PIL's "L", 3 = "RGB"), h × w pixels, v the magnitude in 1 … 10. The ranges are those of
FixMatch's RandAugment (Sohn et al. 2020, the list of transformations in the appendix), as its PyTorch port by kekmodel
reads them. "PIL" is Pillow on x86-64, for sides up to 16384, beyond which its affine transform leaves fixed point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

Family = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # images, code, magnitude, sign → images
LevelFamily = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # images, their levels, code, magnitude → tables
Plan = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # images, code, magnitude, sign → images

MAX_MAGNITUDE = 10
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
_GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
_CURVE = ("Brightness", "Posterize", "Solarize")


def apply_operation(name: str, images: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """One operation on every row.

    `images` (b, c, h, w) uint8, `magnitude` (b,) int64 in 1 … 10, `sign` (b,) int64 ±1 → (b, c, h, w) uint8. The
    geometric operations read the sign; the others do not, and some read no magnitude either.

    >>> image = torch.tensor([[[[0, 100, 200]]]], dtype=torch.uint8)
    >>> apply_operation("Solarize", image, torch.tensor([5]), torch.tensor([1])).tolist()
    [[[[0, 100, 55]]]]
    """
    code = torch.full_like(magnitude, OPERATIONS.index(name))
    return apply_grouped(images, code, magnitude, sign)


def apply_grouped(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Row i goes through operation `OPERATIONS[code[i]]`; each family computes its own rows only. Waits for the device.

    `images` (b, c, h, w) uint8; `code`, `magnitude` and `sign` (b,) int64 → (b, c, h, w) uint8.
    """
    changed = images.clone(memory_format=torch.contiguous_format)
    return change_grouped(changed, code, magnitude, sign)


def change_grouped(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """`apply_grouped` in place, for contiguous images: on a CPU, new memory costs more than many an operation."""
    idle, *ends = torch.bincount(code, minlength=len(OPERATIONS)).cumsum(0).tolist()
    ends = [0, *(end - idle for end in ends)]  # where each operation's rows end in `changed`, which has no Identity's
    order = code.argsort()[idle:]
    changed, code, magnitude, sign = (x.index_select(0, order) for x in (images, code, magnitude, sign))

    def rows_of(first: int, last: int) -> slice:
        return slice(ends[first - 1], ends[last])

    for family, first, last in _FAMILY_CODES:
        rows = rows_of(first, last)
        if rows.start < rows.stop:
            changed[rows] = family(changed[rows], code[rows], magnitude[rows], sign[rows])
    leveled = changed[rows_of(_FIRST_LEVEL, _LAST_LEVEL)]
    levels = leveled.flatten(2).long()
    tables = torch.empty(*levels.shape[:2], 256, dtype=torch.uint8, device=images.device)
    offset = rows_of(_FIRST_LEVEL, _LAST_LEVEL).start
    for level_family, first, last in _LEVEL_CODES:
        rows = rows_of(first, last)
        if rows.start < rows.stop:
            part = slice(rows.start - offset, rows.stop - offset)
            tables[part] = level_family(leveled[part], levels[part], code[rows], magnitude[rows])
    leveled.flatten(2).copy_(tables.gather(2, levels))
    _words(images).index_copy_(0, order, _words(changed))
    return images


def _words(images: Tensor) -> Tensor:
    """(b, …) the same bytes, as the longest numbers that fill a row: a CPU puts those in place ten times as fast."""
    rows = images.flatten(1)
    numbers = (torch.complex128, torch.int64, torch.int32, torch.uint8)
    return rows.view(next(number for number in numbers if rows.shape[1] % number.itemsize == 0))


def apply_dense(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """What `apply_grouped` returns, computed without a look at any value: nothing here waits for the device."""
    changed = images
    for family, first, last in _FAMILY_CODES:
        chosen = _is_between(code, first, last)[:, None, None, None]
        changed = torch.where(chosen, family(images, code, magnitude, sign), changed)
    levels = images.flatten(2).long()
    tables = torch.arange(256, dtype=torch.uint8, device=images.device).expand(*levels.shape[:2], 256)
    for level_family, first, last in _LEVEL_CODES:
        chosen = _is_between(code, first, last)[:, None, None]
        tables = torch.where(chosen, level_family(images, levels, code, magnitude), tables)
    leveled = tables.gather(2, levels).view_as(images)
    return torch.where(_is_between(code, _FIRST_LEVEL, _LAST_LEVEL)[:, None, None, None], leveled, changed)


def _is_between(code: Tensor, first: int, last: int) -> Tensor:
    return (first <= code) & (code <= last)


def _member(code: Tensor, names: tuple[str, ...]) -> Tensor:
    """(b,) int64, which of a family's operations is meant; in range for the rows of other families, too."""
    first = OPERATIONS.index(names[0])
    return (code - first).clamp(0, len(names) - 1)


# ---- geometry: PIL's Image.transform(AFFINE, NEAREST) and Image.rotate, black outside ------------------------------


def _geometric(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Rotate, ShearX, ShearY, TranslateX, TranslateY: one gather, from where PIL's 16.16 fixed point says."""
    sources, inside = _sources(*images.shape[-2:], images.device)
    motion = _member(code, _GEOMETRIC) * (2 * MAX_MAGNITUDE + 1) + MAX_MAGNITUDE + sign * magnitude
    index = sources.index_select(0, motion)[:, None].expand(-1, images.shape[1], -1)
    moved = images.flatten(2).gather(2, index).mul_(inside.index_select(0, motion)[:, None])
    return moved.view_as(images)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sources(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(motions, h · w) int64 and uint8: where each pixel comes from, and 1 if that is in the image, else 0.

    A motion is an operation with a signed magnitude −10 … 10: 105 of them. Kept per size and device: 1 MB at 32 pixels,
    7 MB at 84, and always less than a hundred images of the batch take as float32.
    """
    signed = range(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1)
    matrices = [_fixed_point(_matrix(name, v, height, width)) for name in _GEOMETRIC for v in signed]
    xx, xy, x0, yx, yy, y0 = torch.tensor(matrices, dtype=torch.int32)[:, :, None, None].unbind(1)
    x, y = torch.arange(width, dtype=torch.int32), torch.arange(height, dtype=torch.int32)[:, None]
    source_x = (xx * x + (xy * y + x0)) >> 16  # (motions, h, w)
    source_y = (yx * x + (yy * y + y0)) >> 16
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    sources = torch.where(inside, source_y * width + source_x, 0).long()
    return sources.flatten(1).to(device), inside.to(torch.uint8).flatten(1).to(device)


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


# ---- level by level: tables (b, c or 1, 256) uint8 of what becomes of each grey level -------------------------------


def _curve(images: Tensor, _levels: Tensor, code: Tensor, magnitude: Tensor) -> Tensor:
    """Brightness, Posterize, Solarize: the table follows from the magnitude alone."""
    curve = _member(code, _CURVE) * (MAX_MAGNITUDE + 1) + magnitude
    return _curves(images.device).index_select(0, curve)[:, None]


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _curves(device: torch.device) -> Tensor:
    """(curve operations · 11, 256) uint8: what becomes of each level, per operation and magnitude 0 … 10."""
    level = torch.arange(256)
    curves = torch.empty(len(_CURVE), MAX_MAGNITUDE + 1, 256, dtype=torch.uint8)
    for v in range(MAX_MAGNITUDE + 1):
        bits = int(v * 4 / 10) + 4
        threshold = 256 - int(v * 256 / 10)
        curves[_CURVE.index("Brightness"), v] = _blend(torch.zeros(256), level, _factors(torch.device("cpu"))[v])
        curves[_CURVE.index("Posterize"), v] = level & ~(2 ** (8 - bits) - 1)
        curves[_CURVE.index("Solarize"), v] = torch.where(level < threshold, level, 255 - level)
    return curves.flatten(0, 1).to(device)


def _autocontrast(images: Tensor, _levels: Tensor, _code: Tensor, _magnitude: Tensor) -> Tensor:
    """Per channel, the levels in use are stretched to 0 … 255. In float64, as PIL's Python code does it."""
    level = torch.arange(256, device=images.device)
    darkest = images.flatten(2).amin(2, keepdim=True).double()  # (b, c, 1)
    span = images.flatten(2).amax(2, keepdim=True).double() - darkest
    scale = torch.full_like(span, 255) / span.clamp(min=1)  # `255 / span` would be 255 · (1 / span), rounded twice
    stretched = (level * scale + -darkest * scale).clamp(0, 255).to(torch.uint8)  # (b, c, 256)
    return torch.where(span > 0, stretched, level.to(torch.uint8))


def _equalize(images: Tensor, levels: Tensor, _code: Tensor, _magnitude: Tensor) -> Tensor:
    """Per channel, the levels are spread so that each is used about equally often."""
    one = torch.ones((), dtype=torch.int32, device=images.device)
    histogram = torch.zeros(*levels.shape[:2], 256, dtype=torch.int32, device=images.device)
    histogram.scatter_add_(2, levels, one.expand_as(levels))
    of_brightest = histogram.gather(2, images.flatten(2).amax(2, keepdim=True).long())
    step = (levels.shape[2] - of_brightest) // 255  # (b, c, 1); 0 where there is one level, or too few pixels
    darker = histogram.cumsum(2, dtype=torch.int32) - histogram
    # float64 divides faster than int32, and no quotient of two of these rounds up to a whole number
    spread = ((darker + step // 2).double() / step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    level = torch.arange(256, dtype=torch.uint8, device=images.device)
    return torch.where(step > 0, spread, level)


def _contrast(images: Tensor, _levels: Tensor, _code: Tensor, magnitude: Tensor) -> Tensor:
    """Towards the mean grey of the whole image, rounded half up."""
    pixels = images.shape[-2] * images.shape[-1]
    mean = (2 * _grey(images).sum((1, 2, 3)) + pixels) // (2 * pixels)  # (b,)
    level = torch.arange(256, device=images.device)
    table = _blend(mean[:, None], level, _factors_of(magnitude)[:, None])  # (b, 256)
    return table[:, None]


# ---- PIL's ImageEnhance: a blend with a degenerate image -----------------------------------------------------------


def _color(images: Tensor, _code: Tensor, magnitude: Tensor, _sign: Tensor) -> Tensor:
    """Towards grey. One channel has no colour to lose."""
    if images.shape[1] == 1:
        return images
    return _blend(_grey(images), images, _factors_of(magnitude)[:, None, None, None])


def _sharpness(images: Tensor, _code: Tensor, magnitude: Tensor, _sign: Tensor) -> Tensor:
    """Towards PIL's SMOOTH: a 3 × 3 mean with weight 5 in the centre and 1 around it. The border pixels stay."""
    height, width = images.shape[-2:]
    changed = images.clone(memory_format=torch.contiguous_format)  # flatten(2), which is written to, must be a view
    if min(height, width) < 3:
        return changed
    # Rows end to end, so that every step is one long run. What wraps from row to row falls on the border.
    sharp = images.flatten(2).float()
    columns = (sharp[..., : -2 * width] + sharp[..., width:-width]).add_(sharp[..., 2 * width :])
    centre = sharp[..., width + 1 : -width - 1]
    total = (columns[..., :-2] + columns[..., 1:-1]).add_(columns[..., 2:]).add_(centre, alpha=4)
    # total / 13 is never within 1/26 of a half, so that no order of rounding, and no reciprocal of 13, changes it
    smooth = total.div_(13).add_(0.5).floor_()
    changed.flatten(2)[..., width + 1 : -width - 1] = _blend(smooth, centre, _factors_of(magnitude)[:, None, None])
    changed[..., 0], changed[..., -1] = images[..., 0], images[..., -1]
    return changed


def _blend(degenerate: Tensor, pixels: Tensor, factor: Tensor) -> Tensor:
    """PIL's Image.blend → uint8. Product and sum are rounded apart: a fused `lerp` would differ from PIL in places."""
    degenerate = degenerate.float()
    return (pixels.float() - degenerate).mul_(factor).add_(degenerate).to(torch.uint8)


def _factors_of(magnitude: Tensor) -> Tensor:
    """(b,) float32, the share of the original image that stays."""
    return _factors(magnitude.device).index_select(0, magnitude)


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _factors(device: torch.device) -> Tensor:
    """(11,) float32, the share of the original image that stays at magnitude 0 … 10; 0.14 at 1, 0.95 at 10."""
    return torch.tensor([v * 0.9 / 10 + 0.05 for v in range(MAX_MAGNITUDE + 1)], dtype=torch.float32, device=device)


def _grey(images: Tensor) -> Tensor:
    """(b, 1, h, w) int32: PIL's convert("L"), ITU-R 601 luma in 1/65536."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, dim=1)
    grey: Tensor = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(32768)
    return grey >> 16


# ---- who belongs to which family -----------------------------------------------------------------------------------

_FAMILIES: tuple[tuple[Family, tuple[str, ...]], ...] = (
    (_geometric, _GEOMETRIC),
    (_color, ("Color",)),
    (_sharpness, ("Sharpness",)),
)
_LEVEL_FAMILIES: tuple[tuple[LevelFamily, tuple[str, ...]], ...] = (
    (_curve, _CURVE),
    (_autocontrast, ("AutoContrast",)),
    (_equalize, ("Equalize",)),
    (_contrast, ("Contrast",)),
)

# A row's code is its operation's position here; the members of a family are neighbours, and so are those of one kind.
OPERATIONS: tuple[str, ...] = ("Identity", *(name for _, names in (*_FAMILIES, *_LEVEL_FAMILIES) for name in names))
_FAMILY_CODES = tuple((family, OPERATIONS.index(names[0]), OPERATIONS.index(names[-1])) for family, names in _FAMILIES)
_LEVEL_CODES = tuple(
    (family, OPERATIONS.index(names[0]), OPERATIONS.index(names[-1])) for family, names in _LEVEL_FAMILIES
)
_FIRST_LEVEL, _LAST_LEVEL = _LEVEL_CODES[0][1], _LEVEL_CODES[-1][2]
