from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from assl_lightning.data import pixel_components as module
from assl_lightning.data.decoding import ImageFormat
from assl_lightning.data.image_stream import StreamedImages
from assl_lightning.data.pixel_components import pixel_components


def draw(count: int, channels: int = 1, side: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def components_of_definition(images: Tensor, count: int) -> Tensor:
    """Centred pixels times the eigenvectors of their covariance with the largest eigenvalues."""
    pixels = images.double().flatten(1).numpy() / 255
    centred = pixels - pixels.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return torch.from_numpy(centred @ vectors[:, ::-1][:, :count].copy())


def assert_same_up_to_signs(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    signs = (found.double() * expected).sum(0).sign()
    torch.testing.assert_close(found.double(), expected * signs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("channels", [1, 3])
def test_components_are_those_of_the_definition(channels: int) -> None:
    images, index = draw(80, channels), torch.arange(3, 80, 2)
    expected = components_of_definition(images[index], 10)
    assert_same_up_to_signs(pixel_components(images, index, 10), expected)


def test_there_are_fifty_or_as_many_as_images_or_pixels() -> None:
    assert pixel_components(draw(70), torch.arange(70)).shape == (70, 50)
    assert pixel_components(draw(70), torch.arange(20)).shape == (20, 20)
    assert pixel_components(draw(70, side=3), torch.arange(70)).shape == (70, 9)
    assert pixel_components(draw(70), torch.arange(1)).shape == (1, 1)


def test_where_nothing_varies_there_is_nothing_to_tell_apart() -> None:
    alike = draw(1).expand(7, -1, -1, -1)
    found = pixel_components(alike, torch.arange(7))
    torch.testing.assert_close(found, torch.zeros(7, 7), atol=1e-12, rtol=0)
    assert torch.equal(found, found[:1].expand(7, -1))


def test_of_many_images_and_pixels_a_part_is_decomposed_which_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, index = draw(90), torch.arange(90)
    scaled = (images.float() * torch.linspace(0.1, 1, 64).view(8, 8)).byte()  # so that no two components vary alike
    whole = pixel_components(scaled, index, 5)
    monkeypatch.setattr(module, "_WHOLE", 10)
    assert_same_up_to_signs(pixel_components(scaled, index, 5), whole.double())
    assert torch.equal(pixel_components(scaled, index, 5), pixel_components(scaled, index, 5))


def test_equal_images_have_equal_rows_wherever_they_stand() -> None:
    images = draw(600)
    images[[5, 299, 580]] = images[0].clone()
    found = pixel_components(images, torch.arange(600))
    assert torch.equal(found[[5, 299, 580]], found[:1].expand(3, -1))
    assert len(found.unique(dim=0)) == 597


def test_long_sides_are_averaged_down() -> None:
    small = draw(30, side=32)
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    index = torch.arange(30)
    assert torch.equal(pixel_components(large, index), pixel_components(small, index))


def test_images_in_files_have_the_same(tmp_path: Path) -> None:
    images = draw(20)
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    index = torch.tensor([4, 2, 19, 7])
    files = StreamedImages(paths, ImageFormat((8, 8), 1, "crop"))
    assert torch.equal(pixel_components(files, index), pixel_components(images, index))
