"""An image file → uint8 pixels of one size and one number of channels, or what is wrong with it."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Resize = Literal["crop", "squash"]

Images = npt.NDArray[np.uint8]  # (n, channels, height, width)

Faults = dict[int, str]
"""Place among n images → what is wrong with that one."""

UNDECODABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What Pillow raises for a damaged image, by format and by place of the damage, and for one that is far too large."""

_AT_ONCE = 256  # images that are decoded before any of them is handed on

_NAMED = 3  # of the images that cannot be decoded, in an error

_BITS = {"I": 32, "F": 32}  # modes whose range of values nobody says


@dataclass(frozen=True)
class ImageFormat:
    """What every image becomes.

    * EXIF's orientation is applied. Of a camera's several pictures in one file (MPO) the first is taken; whatever else
      has several frames is refused.
    * Palettes, CMYK and YCbCr are converted by Pillow, without their colour profiles. Grey becomes three equal
      channels, colour becomes grey by ITU-R 601-2. Transparent pixels lie over white.
    * 16 bits become 8: grey by value / 257, rounded; of colour Pillow keeps the upper byte. 32-bit integers and floats
      are refused, since nobody says what their white is.
    * "crop" scales the image until it just covers the size, and keeps its middle; "squash" scales height and width each
      by its own. Both are Pillow's BILINEAR, which is antialiased. An image that has the size already stays as it is.

    Raises ValueError where a field is not as said beside it.
    """

    size: tuple[int, int]  # height, width
    channels: int  # 1 or 3
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"image_size must be [height, width], each at least 1; got {list(self.size)}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1, for grey images, or 3, for colour; got {self.channels}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"resize must be one of {', '.join(get_args(Resize))}; got {self.resize!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (self.channels, *self.size)


def decode_all(paths: Sequence[Path], form: ImageFormat) -> Iterator[tuple[Images, Faults]]:
    """The images in parts of at most 256, in their order; black, and named in the faults, where one cannot be decoded.

    Faults are by place in the part. All cores decode, since Pillow lets go of the interpreter's lock.

    Raises:
        OSError: a file cannot be read at all, so that nobody knows whether it is whole.
    """
    black = np.zeros(form.shape, dtype=np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for first in range(0, len(paths), _AT_ONCE):
            part = list(threads.map(lambda path: decode(path, form), paths[first : first + _AT_ONCE]))
            images = np.stack([black if isinstance(image, str) else image for image in part])
            yield images, {place: image for place, image in enumerate(part) if isinstance(image, str)}


def decode(path: Path, form: ImageFormat) -> Images | str:
    """The image, (channels, height, width), or what is wrong with it, which begins with its path."""
    return decode_bytes(path.read_bytes(), form, str(path))


def decode_bytes(content: bytes, form: ImageFormat, name: str) -> Images | str:
    """As `decode`, of what a file holds; `name` is what it is called where something is wrong with it."""
    try:
        with Image.open(BytesIO(content)) as stored:
            return convert(stored, form, name)
    except UNDECODABLE as problem:
        return _fault(name, problem)


def convert(stored: Image.Image, form: ImageFormat, name: str) -> Images | str:
    """As `decode`, of an image that Pillow has opened; it is not changed."""
    try:
        refusal = _refusal(stored)
        if refusal:
            return f"{name} ({refusal})"
        upright = ImageOps.exif_transpose(stored)
        image = _resize(_to_channels(_to_8_bit(upright) if _is_16_bit(stored) else upright, form.channels), form)
    except UNDECODABLE as problem:
        return _fault(name, problem)
    pixels = np.asarray(image)
    return pixels[None] if form.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _fault(name: str, problem: Exception) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return f"{name} (no image format that Pillow knows)"
    return f"{name} ({' '.join(str(problem).split()) or type(problem).__name__})"


def describe_faults(faults: Sequence[str], part: str) -> str:
    """How many images cannot be decoded, and which: the first few, each with its reason.

    >>> describe_faults(["a.png (broken)"], "pool")
    "1 of the pool's images cannot be decoded: a.png (broken)"
    """
    more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    return f"{len(faults)} of the {part}'s images cannot be decoded: {'; '.join(faults[:_NAMED])}{more}"


def _refusal(image: Image.Image) -> str:
    """Why the image is not even decoded, or nothing."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        return f"it has {frames} frames; save one of them as an image of its own"
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        return f"it has {image.width} × {image.height} pixels, more than the {limit:,} that are taken for an image"
    if image.mode in _BITS and not _is_16_bit(image):
        kind = "integers" if image.mode == "I" else "floating-point numbers"
        return f"its pixels are {_BITS[image.mode]}-bit {kind}, whose white nobody says; save it with 8 or 16 bits"
    return ""


def _is_16_bit(image: Image.Image) -> bool:
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")  # as Pillow < 11.3 has these


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _to_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
    wanted = "L" if channels == 1 else "RGB"
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")  # from which any mode can be had
    return image.convert(wanted)


def _resize(image: Image.Image, form: ImageFormat) -> Image.Image:
    size = (form.size[1], form.size[0])  # Pillow's order
    if image.size == size:
        return image
    if form.resize == "squash":
        return image.resize(size, Image.Resampling.BILINEAR)
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def read_upright(path: Path, channels: int) -> Image.Image | str:
    """The image in its own size, grey or in colour, as `ImageFormat` says; or what is wrong with it."""
    try:
        with Image.open(BytesIO(path.read_bytes())) as stored:
            refusal = _refusal(stored)
            if refusal:
                return f"{path} ({refusal})"
            upright = ImageOps.exif_transpose(stored)
            return _to_channels(_to_8_bit(upright) if _is_16_bit(stored) else upright, channels)
    except UNDECODABLE as problem:
        return f"{path} ({' '.join(str(problem).split()) or type(problem).__name__})"
