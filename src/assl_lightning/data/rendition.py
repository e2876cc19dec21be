"""An image of the pool as a file that any browser shows."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

from assl_lightning.data.decoding import read_upright
from assl_lightning.data.file_reading import ImageFile

_SMALL = 256  # pixels of the longest side, up to which the file is a PNG, which loses nothing

Rendition = tuple[str, bytes]
"""The suffix of a file, "png" or "jpg", and its content."""


def rendition(pixels: Tensor, path: ImageFile | None, longest: int) -> Rendition:
    """Return the original at `path` upright, in colour or grey, its longer side at most `longest` pixels.

    Where there is no original, or it cannot be read any more, the image is `pixels` (channels, height, width) uint8, as
    training sees them. The file has no metadata, such as the place, the camera or the name.
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


def _original(path: ImageFile) -> Image.Image | None:
    try:
        image = read_upright(path, channels=3)
    except OSError:
        return None
    return None if isinstance(image, str) else image
