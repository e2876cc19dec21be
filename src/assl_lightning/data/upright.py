"""Convert an image that Pillow has opened to 8 bits of grey or colour, upright and opaque; or refuse it.

Errors of Pillow go through; `decoding` turns them into faults.
"""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

_ORIENTATION = 0x0112  # EXIF's tag

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation → the transposition that turns such an image upright. Any other value needs none."""

_WHITES = {"L;2": 3, "L;4": 15}
"""Layout of a grey PNG → its largest value. Pillow scales that to 255, but leaves the hidden value of tRNS."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF's tags
_WHITE_IS_ZERO, _SIGNED = 0, 2  # their values


def refusal(image: Image.Image) -> str:
    """Return the reason why an image is refused before it is decoded; empty where there is none."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        return f"it has {frames} frames; save one of them as an image of its own"
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        return f"it has {image.width} × {image.height} pixels, more than the {limit:,} that are taken for an image"
    if image.mode in ("I", "F") and not _is_16_bit(image):
        return f"its pixels are {_numbers_of(image)}, of which no value is known to be white; save it with 8 or 16 bits"
    return ""


def to_pixels(stored: Image.Image, channels: int) -> Image.Image:
    """Return the image in "L" or "RGB", upright, as `decoding.ImageFormat` describes; it may be `stored` itself."""
    layout = _layout_of(stored)
    low = _low_bytes(stored) if layout == "RGB;16B" and "transparency" in stored.info else None
    white_is_zero = _tiff_tag(stored, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO
    upright = _turn(stored)
    if _is_16_bit(stored):
        return _to_channels(_to_8_bit(upright, 4095 if layout == "I;12" else 65535, white_is_zero), channels)
    if low is not None:
        return _to_channels(_show_hidden_colour(upright, _turn_by(low, _orientation(stored))), channels)
    hidden = upright.info.get("transparency")
    if isinstance(hidden, int) and layout in _WHITES:
        upright.info["transparency"] = hidden * 255 // _WHITES[layout]
    elif isinstance(hidden, int) and upright.mode == "1":
        upright.info["transparency"] = 255 if hidden else 0  # Pillow < 11.3 leaves a 1
    return _to_channels(upright, channels)


def _layout_of(stored: Image.Image) -> str:
    """Return Pillow's name for the layout of the values in the file, such as "L;4"; empty once the image is loaded."""
    tiles = getattr(stored, "tile", None)
    if not tiles or stored.format not in ("PNG", "TIFF"):
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, (tuple, list)) and arguments else arguments)


# --- upright ---------------------------------------------------------------------------------------------------------


def _turn(stored: Image.Image) -> Image.Image:
    """Turn an image upright by EXIF's orientation; where that cannot be read, leave it as it is stored.

    `ImageOps.exif_transpose` writes all of EXIF again, and fails for entries of another type than the standard's, which
    cameras and phones write. Pillow itself calls it when it loads a TIFF, which therefore loses its EXIF first.
    """
    turns_itself = hasattr(stored, "_tile_orientation")  # a TIFF of Pillow < 10.1, by that attribute
    if not isinstance(stored, TiffImageFile) or not stored.tile:
        stored.load()
        return _turn_by(stored, None if turns_itself else _orientation(stored))
    orientation = None if turns_itself else _orientation(stored)
    with suppress(Exception):
        exif = stored.getexif()
        for tag in list(exif):
            del exif[tag]
    stored.load()
    return _turn_by(stored, orientation)


def _turn_by(image: Image.Image, orientation: object) -> Image.Image:
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    upright = image if turn is None else image.transpose(turn)
    return upright if upright.size == upright.im.size else upright.copy()  # a TIFF's `size` is the upright one


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF may be damaged in any way, and the image whole
        return None


# --- numbers ---------------------------------------------------------------------------------------------------------


def _is_16_bit(image: Image.Image) -> bool:
    """True if an image is grey of 16 bits: also "I" of a PNG, before Pillow 11.3, or of a PGM, scaled to 65535."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _numbers_of(image: Image.Image) -> str:
    if image.mode == "F":
        return "floating-point numbers"
    bits = _tiff_tag(image, _BITS_PER_SAMPLE, 32)
    signed = "signed " if _tiff_tag(image, _SAMPLE_FORMAT, 1) == _SIGNED else ""
    return f"{signed}{bits}-bit integers"


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    """Return the (first) number under a tag of a TIFF; the default where there is no such tag, or no TIFF."""
    value: Any = getattr(image, "tag_v2", {}).get(tag, default)
    if isinstance(value, tuple) and value:
        value = value[0]
    return value if isinstance(value, int) else default


def _to_8_bit(image: Image.Image, white: int, white_is_zero: bool) -> Image.Image:
    """Convert grey to value / white · 255, rounded; the one value that a PNG hides becomes white."""
    values = np.asarray(image).astype(np.uint32)
    grey = (np.minimum(values, white) * 255 + white // 2) // white
    hidden = image.info.get("transparency")
    if isinstance(hidden, int):
        grey[values == hidden] = 255
    return Image.fromarray((255 - grey if white_is_zero else grey).astype(np.uint8))


# --- transparency ----------------------------------------------------------------------------------------------------


def _low_bytes(stored: Image.Image) -> Image.Image | None:
    """Return the lower bytes of a PNG's 16-bit colours, of which Pillow keeps the upper; None once it is loaded."""
    file = getattr(stored, "fp", None)
    if file is None:
        return None
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    low = Image.open(BytesIO(content))
    low.tile = [(*tile[:3], "RGB;16L") for tile in low.tile]  # type: ignore[misc]  # Pillow 10 has plain tuples
    low.load()
    return low


def _show_hidden_colour(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Make the hidden colour white, where all 16 bits are equal to it."""
    hidden = np.array(upper.info["transparency"], dtype=np.int64)
    colours = np.array(upper)
    is_hidden = (colours == hidden >> 8).all(-1) & (np.asarray(lower) == hidden & 255).all(-1)
    colours[is_hidden] = 255
    return Image.fromarray(colours)


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    wanted = "L" if channels == 1 else "RGB"
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")  # which converts to any mode
    return image if image.mode == wanted else image.convert(wanted)
