"""Decode image files to uint8 pixels of one size and one number of channels, or to a reason why that cannot be."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from assl_lightning.base.ahead import ahead
from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.words import first_few, one_line, with_kind
from assl_lightning.data.file_reading import LINK_TO_NOTHING, ImageFile, Row, read_file, threads_to_read
from assl_lightning.data.upright import refusal, to_pixels

Made = TypeVar("Made")
Picture = TypeVar("Picture")

Resize = Literal["crop", "squash"]

Images = npt.NDArray[np.uint8]  # (n, channels, height, width)

Faults = dict[int, str]
"""Index of an image → the reason why it cannot be decoded, which begins with its name."""

_AT_ONCE = 256  # images that are decoded before the first of them is yielded

_NAMED = 3  # of the images that cannot be decoded, in an error

_NO_IMAGES = (
    (re.compile(rb"version https://git-lfs"), "a pointer of Git LFS, not the file itself; fetch it with git lfs pull"),
    (re.compile(rb"(/annex/objects/|\.\./.*/annex/objects/)"), "a pointer of git-annex; fetch it with git annex get"),
    (re.compile(rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL), "a HEIC photograph; save it as JPEG or PNG"),
    (re.compile(rb".{4}ftypavi[fs]", re.DOTALL), "an AVIF image, which Pillow reads from 11.3 on, if whole"),
)
"""First bytes of a file that is no image → its kind, and a remedy."""

_SPEAK_FOR_THEMSELVES = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
"""Errors of Pillow whose message is a sentence; other messages are given with the kind, as in "KeyError: 34"."""


@dataclass(frozen=True)
class ImageFormat:
    """The size, channels and way of resizing that every image is converted to.

    * EXIF's orientation is applied; where it cannot be read, the image stays as it is stored. Of a camera's several
      pictures in one file (MPO) the first is taken; any other file of several frames is refused.
    * Palettes, CMYK and YCbCr are converted by Pillow, without their colour profiles. Grey becomes three equal
      channels, colour becomes grey by ITU-R 601-2. Transparent pixels lie over white, and so do those of the one value
      or colour that a PNG may hide.
    * 16 bits become 8: grey by value / 257, rounded, or by the largest value that a PGM or a TIFF of 12 bits has; of
      colour Pillow keeps the upper byte. Signed and 32-bit integers and floats are refused, since it is not known which
      value is white.
    * "crop" scales the image until it just covers the size, and keeps its middle; "squash" scales height and width each
      by its own. Both are Pillow's BILINEAR, which is antialiased. An image that has the size already stays as it is.

    Raises ValueError where a field is out of range.
    """

    size: Sequence[int]  # height, width
    channels: int  # 1 or 3
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"image_size must be [height, width], each at least 1; got {list(self.size)}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1, for grey images, or 3, for colour; got {self.channels}")
        require_one_of("resize", self.resize, Resize)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        height, width = self.size
        return (self.channels, height, width)


def decode_all(paths: Sequence[ImageFile], form: ImageFormat) -> Iterator[tuple[int, Images, Faults]]:
    """Decode image files in parts of at most 256, on all cores, since Pillow releases the interpreter's lock.

    Of a store, 32 are asked for at once.

    Yields, in the order of `paths`, the index of a part's first image, the part's pixels, and its faults by index; an
    image that has a fault is black.

    Raises:
        OSError: as `decode`.
    """
    return read_all(paths, partial(decode, form=form), form, threads_to_read(paths))


def read_all(
    pictures: Sequence[Picture],
    read: Callable[[Picture], Images | str],
    form: ImageFormat,
    num_threads: int | None = None,
) -> Iterator[tuple[int, Images, Faults]]:
    """Read `pictures` as `decode_all` does; `read` returns an image of the `form`, or its fault.

    The next parts are read while the caller works with one. `num_threads` is the number of pictures that are read at
    once; None: one for each core.
    """
    black = np.zeros(form.shape, dtype=np.uint8)
    starts = range(0, len(pictures), _AT_ONCE)
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as threads:

        def read_part(first: int) -> list[Images | str]:
            return list(threads.map(read, pictures[first : first + _AT_ONCE]))

        for first, part in zip(starts, ahead(read_part, starts), strict=True):
            images = np.stack([black if isinstance(image, str) else image for image in part])
            yield first, images, {index: image for index, image in enumerate(part, first) if isinstance(image, str)}


def decode(path: ImageFile | Row, form: ImageFormat) -> Images | str:
    """Return the image, (channels, height, width), or the reason why it cannot be decoded, which begins with its path.

    Raises:
        OSError: there is no such file, or its disk failed, so that it may well be whole.
    """
    content = read_file(path)
    return f"{path} ({content})" if isinstance(content, str) else decode_bytes(content, form, str(path))


def decode_bytes(content: bytes, form: ImageFormat, name: str) -> Images | str:
    """Decode the content of a file as `decode` does; a reason why it cannot be decoded begins with `name`."""

    def read() -> Images | str:
        with _open(content) as stored:
            return convert(stored, form, name)

    return attempt(name, read)


def _open(content: bytes) -> Image.Image:
    """Open an image; the error for a common kind of file that is no image names the kind and a remedy."""
    try:
        return Image.open(BytesIO(content))
    except UnidentifiedImageError:
        kind = next((words for beginning, words in _NO_IMAGES if beginning.match(content)), "")
        if not kind:
            raise
        raise ValueError(kind) from None


def convert(stored: Image.Image, form: ImageFormat, name: str) -> Images | str:
    """Convert an image that Pillow has opened, as `decode` does; it may be loaded and lose its metadata."""

    def read() -> Images | str:
        problem = refusal(stored)
        if problem:
            return f"{name} ({problem})"
        pixels = np.asarray(_resize(to_pixels(stored, form.channels), form))
        return pixels[None] if form.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    return attempt(name, read)


def read_upright(path: ImageFile, channels: int) -> Image.Image | str:
    """Return the image in its own size, grey or in colour, without metadata; or the reason why it cannot be decoded.

    Raises:
        OSError: as `decode`.
    """
    content = read_file(path)
    if isinstance(content, str):
        return f"{path} ({content})"

    def read() -> Image.Image | str:
        with _open(content) as stored:
            problem = refusal(stored)
            if problem:
                return f"{path} ({problem})"
            image = to_pixels(stored, channels)
            image.info = {}
            return image

    return attempt(str(path), read)


def attempt(name: str, decode_it: Callable[[], Made]) -> Made | str:
    """Call `decode_it` and return its result; if it raises, return the fault of the image called `name`.

    Decoders raise errors of any type for a damaged image, such as AttributeError, KeyError, RuntimeError and
    MemoryError. Their warnings are about metadata, or about what `ImageFormat` refuses; they are neither shown nor
    turned into errors.
    """
    try:
        with _quietly():
            return decode_it()
    except Exception as problem:
        return f"{name} ({_reason_of(problem)})"


def _reason_of(problem: Exception) -> str:
    if isinstance(problem, UnidentifiedImageError):
        return "no image format that Pillow knows"
    return one_line(problem) if isinstance(problem, _SPEAK_FOR_THEMSELVES) else with_kind(problem)


_quiet_lock = threading.Lock()
_quiet: list[warnings.catch_warnings[None]] = []  # entered by the first of the decoders at work
_num_quiet = 0


@contextmanager
def _quietly() -> Iterator[None]:
    """Hide warnings of decoders in the block. Filters are global, so the last thread to leave restores them."""
    global _num_quiet  # noqa: PLW0603
    with _quiet_lock:
        _num_quiet += 1
        if _num_quiet == 1:
            _quiet.append(warnings.catch_warnings())
            _quiet[0].__enter__()
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", RuntimeWarning)  # of an image with too many pixels
    try:
        yield
    finally:
        with _quiet_lock:
            _num_quiet -= 1
            if _num_quiet == 0:
                _quiet.pop().__exit__(None, None, None)


def describe_faults(faults: Sequence[str], part: str) -> str:
    """Return how many images cannot be decoded, and the first few with their reasons.

    >>> describe_faults(["a.png (broken)"], "pool")
    "1 of the pool's images cannot be decoded: a.png (broken)"
    """
    return f"{len(faults)} of the {part}'s images cannot be decoded: {name_faults(faults)}"


def name_faults(faults: Sequence[str]) -> str:
    """Return the first few faults, how many more there are, and how many of them are links to nothing."""
    return f"{first_few(faults, _NAMED, '; ')}{count_links(faults)}"


def count_links(faults: Sequence[str]) -> str:
    """Return the end of a sentence: how many faults are links to nothing, and what to do; empty where none is."""
    links = sum(f" ({LINK_TO_NOTHING}" in fault for fault in faults)
    if not links:
        return ""
    words = "1 is a link to nothing: mount what it leads" if links == 1 else ""
    return f"; of these, {words or f'{links:,} are links to nothing: mount what they lead'} to"


def _resize(image: Image.Image, form: ImageFormat) -> Image.Image:
    size = (form.size[1], form.size[0])  # Pillow's order
    if image.size == size:
        return image
    if form.resize == "squash":
        return image.resize(size, Image.Resampling.BILINEAR)
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
