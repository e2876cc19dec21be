"""An image of the pool as a file that any browser shows, for people to look at."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from assl_lightning.data.decoding import read_upright

_SMALL = 256  # pixels of the longest side, up to which nothing may be lost

Rendition = tuple[str, bytes]
"""How its file's name ends, "png" or "jpg", and what is in it."""


def rendition(pixels: Tensor, path: Path | None, longest: int) -> Rendition:
    """The original at `path`, upright and in colour or grey, its longer side at most `longest` pixels.

    Where there is no original, or nobody can read it any more, `pixels` (channels, height, width) uint8 are shown, as
    training sees them. Nothing but the pixels goes along: no place, no camera, no name.
    """
    image = _original(path) if path is not None else None
    if image is None:
        array = pixels.cpu().numpy()
        image = Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)) if len(array) == 3 else array[0])
    if max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    file = BytesIO()
    if max(image.size) <= _SMALL:
        image.save(file, "PNG")
        return "png", file.getvalue()
    image.save(file, "JPEG", quality=90)
    return "jpg", file.getvalue()


def _original(path: Path) -> Image.Image | None:
    try:
        image = read_upright(path, channels=3)
    except OSError:
        return None
    return None if isinstance(image, str) else image
