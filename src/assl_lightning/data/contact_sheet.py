"""Many small images as one PNG, for people and for the report."""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

MAX_SIDE = 96  # pixels; larger images are shrunk


def contact_sheet(images: Tensor, columns: int = 10) -> bytes:
    """Return a PNG of the images (K, channels, height, width) uint8 side by side, row by row, in their order.

    One channel is grey, three are red, green and blue; of any other number the first is shown in grey. The PNG's text
    fields `tile_width`, `tile_height`, `columns` and `count` tell where each image lies.

    >>> contact_sheet(torch.zeros(3, 1, 8, 8, dtype=torch.uint8))[1:4]
    b'PNG'
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            f"a contact sheet needs uint8 images of shape (K, channels, height, width), K ≥ 1; got {images.dtype} of "
            f"shape {tuple(images.shape)}"
        )
    tiles = _shrink(images if images.shape[1] == 3 else images[:, :1])
    count, channels, height, width = tiles.shape
    rows = -(-count // columns)
    sheet = torch.zeros(rows * columns, channels, height, width, dtype=torch.uint8)
    sheet[:count] = tiles
    pixels = sheet.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)  # row, y, column, x, channel
    array = pixels.reshape(rows * height, columns * width, channels).numpy()
    text = PngInfo()
    for name, value in (("tile_width", width), ("tile_height", height), ("columns", columns), ("count", count)):
        text.add_text(name, str(value))
    file = io.BytesIO()
    Image.fromarray(array if channels == 3 else array[:, :, 0]).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def _shrink(images: Tensor) -> Tensor:
    scale = MAX_SIDE / max(images.shape[-2:])
    if scale >= 1:
        return images.cpu()
    size = [max(1, round(side * scale)) for side in images.shape[-2:]]
    shrunk = F.interpolate(images.cpu().float(), size=size, mode="bilinear", antialias=True)
    return shrunk.round().clamp(0, 255).to(torch.uint8)
