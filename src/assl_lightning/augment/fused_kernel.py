# mypy: ignore-errors
"""The views of a step in one launch: draws, crop, flip, the operations, Cutout and normalisation, a program a view.

The formulas are those of `weak`, `strong`, `dense` and `normalise`; a program computes only the operations that its
view has drawn. Channels are vectors of pixels, int32: `red`, `green` and `blue`, or `red` alone.
"""

import triton
import triton.language as tl

from assl_lightning.augment.ops import CURVES, CUTOUT_GREY, GEOMETRIC, MAX_MAGNITUDE, OPERATIONS
from assl_lightning.augment.strong import SLOTS_PER_OPERATION, StrongSlot
from assl_lightning.augment.weak import WeakSlot
from assl_lightning.base import seeding

GOLDEN, ROW = tl.constexpr(seeding._GOLDEN), tl.constexpr(seeding._ROW)
MIX_1, MIX_2 = tl.constexpr(seeding._MIX_1), tl.constexpr(seeding._MIX_2)
FLIP_SLOT, TOP, LEFT = (tl.constexpr(int(slot)) for slot in (WeakSlot.FLIP, WeakSlot.CROP_TOP, WeakSlot.CROP_LEFT))
BOX_Y, BOX_X = tl.constexpr(int(StrongSlot.CUTOUT_Y)), tl.constexpr(int(StrongSlot.CUTOUT_X))
OPERATION, EACH = tl.constexpr(int(StrongSlot.OPERATION)), tl.constexpr(SLOTS_PER_OPERATION)
FIRST_MOTION, LAST_MOTION = (tl.constexpr(OPERATIONS.index(GEOMETRIC[end])) for end in (0, -1))
FIRST_CURVE, LAST_CURVE = (tl.constexpr(OPERATIONS.index(CURVES[end])) for end in (0, -1))
COLOR, SHARPNESS, AUTOCONTRAST, EQUALIZE, CONTRAST = (
    tl.constexpr(OPERATIONS.index(name)) for name in ("Color", "Sharpness", "AutoContrast", "Equalize", "Contrast")
)
MAGNITUDES, GREY = tl.constexpr(MAX_MAGNITUDE), tl.constexpr(CUTOUT_GREY)


# ---- draws, as in base/seeding.py ------------------------------------------------------------------------------------


@triton.jit
def _bits(key, row, slot: tl.constexpr):
    z = row.to(tl.uint64) * ROW + key.to(tl.uint64) + tl.full((), slot + 1, tl.uint64) * GOLDEN
    z = (z ^ (z >> 30)) * MIX_1
    z = (z ^ (z >> 27)) * MIX_2
    return z ^ (z >> 31)


@triton.jit
def _integer(key, row, slot: tl.constexpr, high: tl.constexpr):
    return (((_bits(key, row, slot) >> 32) * tl.full((), high, tl.uint64)) >> 32).to(tl.int32)


@triton.jit
def _is_drawn(key, row, slot: tl.constexpr, probability):
    uniform = (_bits(key, row, slot) >> 40).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08  # 2⁻²⁴
    return uniform < probability


@triton.jit
def _box_start(key, row, slot: tl.constexpr, size: tl.constexpr, side: tl.constexpr):
    """In 2⁻²⁵ pixels, as `StrongAugment._cutout`."""
    centre = (_bits(key, row, slot) >> 40).to(tl.int64)
    return tl.maximum((centre * (2 * size) - (side << 24)) >> 25, 0).to(tl.int32)


# ---- operations on one channel ---------------------------------------------------------------------------------------


@triton.jit
def _blend(poor, pixel, factor):
    poor = poor.to(tl.float32)
    return ((pixel.to(tl.float32) - poor) * factor + poor).to(tl.int32)


@triton.jit
def _sharpen(v, factor, at, y, x, H: tl.constexpr, W: tl.constexpr):
    across = v + tl.gather(v, tl.maximum(at - 1, 0), 0) + tl.gather(v, tl.minimum(at + 1, H * W - 1), 0)
    above, below = tl.gather(across, tl.maximum(at - W, 0), 0), tl.gather(across, tl.minimum(at + W, H * W - 1), 0)
    total = across + above + below + 4 * v
    smooth = (2 * total + 13) // 26  # total / 13 is never half way between two levels
    is_inner = (y > 0) & (y < H - 1) & (x > 0) & (x < W - 1)
    return tl.where(is_inner, _blend(smooth, v, factor), v)


@triton.jit
def _stretch(v, is_pixel, stretches):
    darkest, brightest = tl.min(tl.where(is_pixel, v, 255), 0), tl.max(tl.where(is_pixel, v, 0), 0)
    return tl.load(stretches + (darkest * 256 + brightest) * 256 + v).to(tl.int32)


@triton.jit
def _equalize(v, is_pixel, P: tl.constexpr, BLOCK: tl.constexpr):
    level = tl.arange(0, 256)
    counts = tl.histogram(tl.where(is_pixel, v, 0), 256) - tl.where(level == 0, BLOCK - P, 0)
    brightest = tl.max(tl.where(is_pixel, v, 0), 0)
    step = (P - tl.sum(tl.where(level == brightest, counts, 0), 0)) // 255
    darker = tl.cumsum(counts, 0) - counts
    table = tl.minimum((darker + step // 2) // tl.maximum(step, 1), 255)
    return tl.where(step > 0, tl.gather(table, v, 0), v)


@triton.jit
def _grey(red, green, blue, C: tl.constexpr):
    if C == 3:
        return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
    else:
        return red


# ---- an operation on an image ----------------------------------------------------------------------------------------


@triton.jit
def _change(
    red, green, blue, code, magnitude, sign, matrices, curves, stretches, factors, at, y, x, is_pixel,
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    P: tl.constexpr = H * W
    factor = tl.load(factors + magnitude)
    if (code >= FIRST_MOTION) & (code <= LAST_MOTION):
        m = matrices + ((code - FIRST_MOTION) * (2 * MAGNITUDES + 1) + MAGNITUDES + sign * magnitude) * 6
        source_x = (tl.load(m) * x + (tl.load(m + 1) * y + tl.load(m + 2))) >> 16
        source_y = (tl.load(m + 3) * x + (tl.load(m + 4) * y + tl.load(m + 5))) >> 16
        is_inside = (source_x >= 0) & (source_x < W) & (source_y >= 0) & (source_y < H)
        source = tl.where(is_inside, source_y * W + source_x, 0)
        red = tl.where(is_inside, tl.gather(red, source, 0), 0)
        if C == 3:
            green = tl.where(is_inside, tl.gather(green, source, 0), 0)
            blue = tl.where(is_inside, tl.gather(blue, source, 0), 0)
    elif code == COLOR:
        if C == 3:
            grey = _grey(red, green, blue, C)
            red, green, blue = _blend(grey, red, factor), _blend(grey, green, factor), _blend(grey, blue, factor)
    elif code == SHARPNESS:
        if (H >= 3) & (W >= 3):
            red = _sharpen(red, factor, at, y, x, H, W)
            if C == 3:
                green, blue = _sharpen(green, factor, at, y, x, H, W), _sharpen(blue, factor, at, y, x, H, W)
    elif (code >= FIRST_CURVE) & (code <= LAST_CURVE):
        curve = curves + ((code - FIRST_CURVE) * (MAGNITUDES + 1) + magnitude) * 256
        red = tl.load(curve + red).to(tl.int32)
        if C == 3:
            green, blue = tl.load(curve + green).to(tl.int32), tl.load(curve + blue).to(tl.int32)
    elif code == AUTOCONTRAST:
        red = _stretch(red, is_pixel, stretches)
        if C == 3:
            green, blue = _stretch(green, is_pixel, stretches), _stretch(blue, is_pixel, stretches)
    elif code == EQUALIZE:
        red = _equalize(red, is_pixel, P, BLOCK)
        if C == 3:
            green, blue = _equalize(green, is_pixel, P, BLOCK), _equalize(blue, is_pixel, P, BLOCK)
    elif code == CONTRAST:
        mean = (2 * tl.sum(tl.where(is_pixel, _grey(red, green, blue, C), 0), 0) + P) // (2 * P)
        red = _blend(mean + red * 0, red, factor)
        if C == 3:
            green, blue = _blend(mean + green * 0, green, factor), _blend(mean + blue * 0, blue, factor)
    return red, green, blue


# ---- a view ----------------------------------------------------------------------------------------------------------


@triton.jit
def _normalised(v, mean, std):
    return tl.div_rn(tl.div_rn(v.to(tl.float32), 255.0) - tl.load(mean), tl.load(std))


@triton.jit(do_not_specialize=["labelled_key", "weak_key", "strong_key", "num_labelled", "num_unlabelled"])
def make_views(
    pool,  # (N, C, H, W) uint8
    labelled, labelled_row,  # (num_labelled,) int64: positions in the pool, and the rows of their draws
    unlabelled, unlabelled_row,  # (num_unlabelled,) likewise
    labelled_key, weak_key, strong_key,  # int64
    num_labelled, num_unlabelled,
    codes, matrices, curves, stretches, factors,  # tables of `ops`
    moments,  # (2, C) float32: mean and std
    views,  # (num_labelled + 2 · num_unlabelled, C, H, W) float32: labelled, weak, strong; or (…, H, W, C) in memory
    C: tl.constexpr, H: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr,
    AUGMENTS_LABELLED: tl.constexpr, FLIP: tl.constexpr, PAD_Y: tl.constexpr, PAD_X: tl.constexpr,
    NUM_OPS: tl.constexpr, NUM_CODES: tl.constexpr, LARGEST: tl.constexpr, PROBABILITY: tl.constexpr,
    HAS_BOX: tl.constexpr, SIDE_Y: tl.constexpr, SIDE_X: tl.constexpr, CHANNELS_LAST: tl.constexpr,
):  # fmt: skip
    view = tl.program_id(0)
    is_labelled = view < num_labelled
    is_strong = view >= num_labelled + num_unlabelled
    position = tl.where(
        is_labelled, view, tl.where(is_strong, view - num_labelled - num_unlabelled, view - num_labelled)
    )
    of_labelled, of_unlabelled = tl.where(is_labelled, position, 0), tl.where(is_labelled, 0, position)
    image = tl.load(labelled + of_labelled, mask=is_labelled, other=0)
    image += tl.load(unlabelled + of_unlabelled, mask=is_labelled == 0, other=0)
    row = tl.load(labelled_row + of_labelled, mask=is_labelled, other=0)
    row += tl.load(unlabelled_row + of_unlabelled, mask=is_labelled == 0, other=0)
    key = tl.where(is_labelled, labelled_key, tl.where(is_strong, strong_key, weak_key))

    P: tl.constexpr = H * W
    at = tl.arange(0, BLOCK)
    is_pixel = at < P
    at = tl.minimum(at, P - 1)
    y, x = at // W, at % W
    source_y, source_x = y, x
    if AUGMENTS_LABELLED or (is_labelled == 0):
        moved_y = y + _integer(key, row, TOP, 2 * PAD_Y + 1) - PAD_Y
        moved_x = x + _integer(key, row, LEFT, 2 * PAD_X + 1) - PAD_X
        source_y = H - 1 - tl.abs(H - 1 - tl.abs(moved_y))
        source_x = W - 1 - tl.abs(W - 1 - tl.abs(moved_x))
        if FLIP:
            source_x = tl.where(_is_drawn(key, row, FLIP_SLOT, 0.5), W - 1 - source_x, source_x)
    start = pool + image * (C * P) + source_y * W + source_x
    red = tl.load(start).to(tl.int32)
    green, blue = red, red
    if C == 3:
        green, blue = tl.load(start + P).to(tl.int32), tl.load(start + 2 * P).to(tl.int32)

    if is_strong:
        for number in tl.static_range(NUM_OPS):
            code = tl.load(codes + _integer(key, row, OPERATION + number * EACH, NUM_CODES)).to(tl.int32)
            magnitude = 1 + _integer(key, row, OPERATION + number * EACH + 1, LARGEST)
            code = tl.where(_is_drawn(key, row, OPERATION + number * EACH + 2, PROBABILITY), code, 0)
            sign = 1 - 2 * _integer(key, row, OPERATION + number * EACH + 3, 2)
            red, green, blue = _change(
                red, green, blue, code, magnitude, sign, matrices, curves, stretches, factors, at, y, x, is_pixel,
                C, H, W, BLOCK,
            )  # fmt: skip
        if HAS_BOX:
            first_y, first_x = _box_start(key, row, BOX_Y, H, SIDE_Y), _box_start(key, row, BOX_X, W, SIDE_X)
            is_grey = (first_y <= y) & (y <= first_y + SIDE_Y) & (first_x <= x) & (x <= first_x + SIDE_X)
            red = tl.where(is_grey, GREY, red)
            if C == 3:
                green, blue = tl.where(is_grey, GREY, green), tl.where(is_grey, GREY, blue)

    OF_PIXEL: tl.constexpr = C if CHANNELS_LAST else 1
    OF_CHANNEL: tl.constexpr = 1 if CHANNELS_LAST else P
    to = views + view.to(tl.int64) * (C * P) + at * OF_PIXEL
    tl.store(to, _normalised(red, moments, moments + C), mask=is_pixel)
    if C == 3:
        tl.store(to + OF_CHANNEL, _normalised(green, moments + 1, moments + C + 1), mask=is_pixel)
        tl.store(to + 2 * OF_CHANNEL, _normalised(blue, moments + 2, moments + C + 2), mask=is_pixel)
