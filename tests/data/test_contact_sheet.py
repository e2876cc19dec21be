from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from assl_lightning.data.contact_sheet import contact_sheet


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 5, 9])
def test_every_image_lies_where_the_text_fields_say(channels: int, count: int) -> None:
    images = torch.randint(0, 256, (count, channels, 6, 8), dtype=torch.uint8)
    sheet = Image.open(io.BytesIO(contact_sheet(images, columns=4)))
    place = {name: int(value) for name, value in sheet.info.items()}
    assert place == {"tile_width": 8, "tile_height": 6, "columns": 4, "count": count}
    pixels = np.asarray(sheet).reshape(*sheet.size[::-1], channels)
    for number, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        row, column = divmod(number, place["columns"])
        np.testing.assert_array_equal(pixels[6 * row : 6 * row + 6, 8 * column : 8 * column + 8], image)


def test_of_other_channels_the_first_is_shown() -> None:
    images = torch.randint(0, 256, (2, 5, 4, 4), dtype=torch.uint8)
    assert contact_sheet(images) == contact_sheet(images[:, :1])


def test_large_images_are_shrunk() -> None:
    sheet = Image.open(io.BytesIO(contact_sheet(torch.full((2, 3, 400, 200), 7, dtype=torch.uint8))))
    assert (sheet.info["tile_width"], sheet.info["tile_height"]) == ("48", "96")
    assert sheet.getpixel((10, 10)) == (7, 7, 7)


@pytest.mark.parametrize("images", [torch.zeros(0, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 4, 4)])
def test_what_is_no_image_is_an_error(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="needs uint8 images of shape"):
        contact_sheet(images)
