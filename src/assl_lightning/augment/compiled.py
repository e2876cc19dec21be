"""Compute the views of a batch on a CPU, image by image, in loops that Numba compiles and that follow the definition.

An image stays in the cache while it is worked on, and only the operation that was drawn is computed. Importing this
module compiles its loops, which takes seconds, once on a machine: Numba keeps the result beside this file or, if it
may not write there, in the user's cache. Symbols are those of `ops`.

Indices of pixels are unsigned: Numba counts a negative index from the end, and the check for it costs a third of a
crop's time. An image is copied by `copy`: assigning it to a slice takes Numba longer than an operation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from assl_lightning.augment.ops import (
    CURVES,
    CUTOUT_GREY,
    GEOMETRIC,
    MAX_MAGNITUDE,
    OPERATIONS,
    curves,
    factors,
    matrices,
)

log = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Matrices = npt.NDArray[np.int32]
Indices = npt.NDArray[np.uint32]
Loop = TypeVar("Loop", bound=Callable[..., Any])


def crop(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`Plan.crop`."""
    views = torch.empty_like(images, memory_format=torch.contiguous_format)
    _crop(images.contiguous().numpy(), _unsigned(rows), _unsigned(columns), views.numpy())
    return views


def change(images: Tensor, code: Tensor, magnitude: Tensor, sign: Tensor) -> Tensor:
    """`Plan.change`, in source."""
    matrix = matrices(*images.shape[-2:])
    level, factor = curves(images.device), factors(images.device)
    tables = (_KINDS, _ENTRIES, matrix.numpy(), level.numpy(), factor.numpy())
    _change(images.numpy(), _numbers(code), _numbers(magnitude), _numbers(sign), *tables)
    return images


def cut_out(images: Tensor, first_y: Tensor, first_x: Tensor, side_y: int, side_x: int) -> Tensor:
    """`Plan.cut_out`, in source."""
    _cut_out(images.numpy(), _numbers(first_y), _numbers(first_x), side_y, side_x, CUTOUT_GREY)
    return images


def _numbers(tensor: Tensor) -> Numbers:
    """Return a contiguous array: a loop takes no other strides than those of its signature."""
    return tensor.contiguous().numpy()


def _unsigned(index: Tensor) -> Indices:
    """Return int32 numbers, of which none is negative, as unsigned numbers."""
    return _numbers(index).view(np.uint32)


def _jit_cached(signature: str) -> Callable[[Loop], Loop]:
    """Compile for the types of `signature`, with a cache file on disk; the loop runs without the interpreter's lock."""

    def compiled(loop: Loop) -> Loop:
        try:
            return cast(Loop, numba.njit(signature, nogil=True, cache=True)(loop))
        except Exception as error:  # no folder for the cache, a full disk, a damaged file: compile without a cache
            uncached = cast(Loop, numba.njit(signature, nogil=True)(loop))  # raises if the loop itself is wrong
            log.warning(
                "the compiled loop %s could not be kept (%s: %s), so that each start takes seconds longer; set "
                "NUMBA_CACHE_DIR to an empty folder that can be written",
                *(loop.__name__, type(error).__name__, error),
            )
            return uncached

    return compiled


def _jit_inlined(loop: Loop) -> Loop:
    """Compile without a cache file of its own; it is cached inside the loops that call it."""
    return cast(Loop, numba.njit(loop))


@_jit_cached("void(uint8[:,:,:,::1], uint32[:,::1], uint32[:,::1], uint8[:,:,:,::1])")
def _crop(images: Bytes, rows: Indices, columns: Indices, views: Bytes) -> None:
    for i in range(images.shape[0]):
        for channel in range(images.shape[1]):
            for y in range(images.shape[2]):
                source, row = images[i, channel, rows[i, y]], views[i, channel, y]
                for x in range(len(row)):
                    row[x] = source[columns[i, x]]


@_jit_cached("void(uint8[:,:,:,::1], int64[::1], int64[::1], int64, int64, uint8)")
def _cut_out(images: Bytes, first_y: Numbers, first_x: Numbers, side_y: int, side_x: int, grey: int) -> None:
    for i in range(images.shape[0]):
        images[i, :, first_y[i] : first_y[i] + side_y + 1, first_x[i] : first_x[i] + side_x + 1] = grey


# ---- the operations on one image (c, h, w) or on one channel (h, w) of it, in source ---------------------------------


@_jit_inlined
def _grey(image: Bytes, y: int, x: int) -> int:
    """PIL's convert("L"), ITU-R 601 luma in 1/65536."""
    if image.shape[0] == 1:
        return int(image[0, y, x])
    red, green, blue = int(image[0, y, x]), int(image[1, y, x]), int(image[2, y, x])
    return (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16


@_jit_inlined
def _move(image: Bytes, matrix: Matrices) -> None:
    """Move pixels by a matrix in 16.16 fixed point; pixels from outside the image are black."""
    _, height, width = image.shape
    xx, xy, x0, yx, yy, y0 = matrix
    still = image.copy().reshape(image.shape[0], -1)
    source, inside = np.empty(width, np.uint32), np.empty(width, np.uint8)
    for y in range(height):
        for x in range(width):
            source_x = (xx * x + (xy * y + x0)) >> 16
            source_y = (yx * x + (yy * y + y0)) >> 16
            inside[x] = 0 <= source_x < width and 0 <= source_y < height
            source[x] = (source_y * width + source_x) * inside[x]
        for channel in range(image.shape[0]):
            for x in range(width):
                image[channel, y, x] = still[channel, source[x]] * inside[x]


@_jit_inlined
def _blend(degenerate: Floats, plane: Bytes, factor: np.float32) -> None:
    """Blend as PIL's Image.blend does, with product and sum rounded separately."""
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            grey = degenerate[y, x]
            plane[y, x] = np.uint8((np.float32(plane[y, x]) - grey) * factor + grey)


@_jit_inlined
def _color(image: Bytes, factor: np.float32) -> None:
    """Blend with grey. Images of one channel stay as they are."""
    channels, height, width = image.shape
    if channels == 1:
        return
    grey = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            grey[y, x] = _grey(image, y, x)
    for plane in image:
        _blend(grey, plane, factor)


@_jit_inlined
def _sharpen(image: Bytes, factor: np.float32) -> None:
    """Blend with PIL's SMOOTH: a 3 × 3 mean with weight 5 in the centre and 1 around it. Border pixels stay."""
    _, height, width = image.shape
    if min(height, width) < 3:
        return
    smooth = np.empty((height - 2, width - 2), np.float32)
    for plane in image:
        sharp = plane.astype(np.float32)
        for y in range(height - 2):
            for x in range(width - 2):
                above = sharp[y, x] + sharp[y, x + 1] + sharp[y, x + 2]
                beside = sharp[y + 1, x] + np.float32(5) * sharp[y + 1, x + 1] + sharp[y + 1, x + 2]
                below = sharp[y + 2, x] + sharp[y + 2, x + 1] + sharp[y + 2, x + 2]
                smooth[y, x] = np.floor((above + beside + below) / np.float32(13) + np.float32(0.5))
        _blend(smooth, plane[1:-1, 1:-1], factor)


@_jit_inlined
def _look_up(table: Bytes, plane: Bytes) -> None:
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            plane[y, x] = table[plane[y, x]]


@_jit_inlined
def _autocontrast(plane: Bytes) -> None:
    """Stretch the levels in use to 0 … 255, in float64 as PIL's Python code does."""
    darkest, brightest = plane[0, 0], plane[0, 0]
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            darkest, brightest = min(darkest, plane[y, x]), max(brightest, plane[y, x])
    if darkest == brightest:
        return
    scale = 255 / (float(brightest) - float(darkest))
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = np.uint8(min(max(level * scale + -float(darkest) * scale, 0.0), 255.0))
    _look_up(table, plane)


@_jit_inlined
def _equalize(plane: Bytes) -> None:
    """Spread the levels so that each is used about equally often."""
    histogram = np.zeros(256, np.int64)
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            histogram[plane[y, x]] += 1
    brightest = np.flatnonzero(histogram)[-1]
    step = (plane.size - histogram[brightest]) // 255
    if step == 0:  # one level, or too few pixels
        return
    table = np.empty(256, np.uint8)
    darker = step // 2
    for level in range(256):
        table[level] = min(darker // step, 255)
        darker += histogram[level]
    _look_up(table, plane)


@_jit_inlined
def _contrast(image: Bytes, factor: np.float32) -> None:
    """Blend with the mean grey of the whole image, rounded half up."""
    _, height, width = image.shape
    total = 0
    for y in range(height):
        for x in range(width):
            total += _grey(image, y, x)
    pixels = height * width
    mean = np.float32((2 * total + pixels) // (2 * pixels))
    table = np.empty(256, np.uint8)
    for level in range(256):
        table[level] = np.uint8((np.float32(level) - mean) * factor + mean)
    for plane in image:
        _look_up(table, plane)


# ---- the operation of each row --------------------------------------------------------------------------------------

# Of all names outside a loop only these are compiled into it; values of `ops` are arguments, so that they may change.
_IDENTITY, _GEOMETRIC, _COLOR, _SHARPNESS, _CURVE, _AUTOCONTRAST, _EQUALIZE, _CONTRAST = range(8)
_KIND = {
    "Identity": _IDENTITY,
    **dict.fromkeys(GEOMETRIC, _GEOMETRIC),
    "Color": _COLOR,
    "Sharpness": _SHARPNESS,
    **dict.fromkeys(CURVES, _CURVE),
    "AutoContrast": _AUTOCONTRAST,
    "Equalize": _EQUALIZE,
    "Contrast": _CONTRAST,
}


def _by_code() -> tuple[Bytes, Numbers]:
    """Return each operation's kind, (14,) by code, and its row in the kind's table, (14, 21) by signed magnitude."""
    kinds = np.array([_KIND[name] for name in OPERATIONS], np.uint8)
    entries = np.zeros((len(OPERATIONS), 2 * MAX_MAGNITUDE + 1), np.int64)
    signed = np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1)
    for number, name in enumerate(GEOMETRIC):
        entries[OPERATIONS.index(name)] = number * len(signed) + signed + MAX_MAGNITUDE
    for number, name in enumerate(CURVES):
        entries[OPERATIONS.index(name)] = number * (MAX_MAGNITUDE + 1) + abs(signed)
    return kinds, entries


_KINDS, _ENTRIES = _by_code()


@_jit_cached(
    "void(uint8[:,:,:,::1], int64[::1], int64[::1], int64[::1],"
    " uint8[::1], int64[:,::1], int32[:,::1], uint8[:,::1], float32[::1])"
)
def _change(
    images: Bytes,
    code: Numbers,
    magnitude: Numbers,
    sign: Numbers,
    kinds: Bytes,
    entries: Numbers,
    matrices: Matrices,
    curves: Bytes,
    factors: Floats,
) -> None:
    zero = entries.shape[1] // 2
    for i in range(images.shape[0]):
        image, factor = images[i], factors[magnitude[i]]
        kind, entry = kinds[code[i]], entries[code[i], zero + sign[i] * magnitude[i]]
        if kind == _GEOMETRIC:
            _move(image, matrices[entry])
        elif kind == _COLOR:
            _color(image, factor)
        elif kind == _SHARPNESS:
            _sharpen(image, factor)
        elif kind == _CONTRAST:
            _contrast(image, factor)
        elif kind != _IDENTITY:
            for plane in image:
                if kind == _CURVE:
                    _look_up(curves[entry], plane)
                elif kind == _AUTOCONTRAST:
                    _autocontrast(plane)
                else:
                    _equalize(plane)
