"""Empty and blurred images among others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from assl_lightning.data.image_quality import contrast_and_sharpness, find_empty_and_blurred


def test_contrast_and_sharpness_are_those_of_the_definition() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    grey = pixels.astype(np.float64) @ [0.299, 0.587, 0.114]
    padded = np.pad(grey, 1, mode="edge")
    edges = [
        padded[row - 1, column] + padded[row + 1, column] + padded[row, column - 1] + padded[row, column + 1]
        - 4 * padded[row, column]
        for row in range(1, 6)
        for column in range(1, 7)
    ]  # fmt: skip

    contrast, sharpness = contrast_and_sharpness(torch.from_numpy(pixels).permute(2, 0, 1)[None])

    assert float(contrast[0]) == pytest.approx(grey.std())
    assert float(sharpness[0]) == pytest.approx(np.var(edges))


def test_an_empty_and_a_blurred_image_are_found_among_sharp_ones_of_any_contrast() -> None:
    generator = np.random.default_rng(1)
    images = [
        Image.fromarray(generator.integers(0, size, (24, 24), dtype=np.uint8)) for size in (90, 120, 160, 200, 255)
    ]
    images += [images[4].filter(ImageFilter.GaussianBlur(2)), Image.new("L", (24, 24), 77)]
    pixels = torch.stack([torch.from_numpy(np.array(image))[None] for image in images])

    is_empty, is_blurred, share = find_empty_and_blurred(*contrast_and_sharpness(pixels))

    assert is_empty.nonzero()[:, 0].tolist() == [6]
    assert is_blurred.nonzero()[:, 0].tolist() == [5]
    assert float(share[1]) == pytest.approx(1)


def test_a_pool_of_empty_images_has_no_blurred_one() -> None:
    is_empty, is_blurred, _ = find_empty_and_blurred(torch.zeros(3).double(), torch.zeros(3).double())
    assert (is_empty.tolist(), is_blurred.tolist()) == ([True] * 3, [False] * 3)
