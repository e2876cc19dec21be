"""The oracle is NumPy's mean and standard deviation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assl_lightning.data.pixel_statistics import pixel_statistics


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(1, 2050), channels=st.sampled_from([1, 3]), seed=st.integers(0, 99), left_out=st.integers(0, 3)
)
def test_they_are_numpys_of_the_images_that_count(number: int, channels: int, seed: int, left_out: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (number + left_out, channels, 3, 2), generator=generator).byte()
    index = torch.randperm(number + left_out, generator=generator)[:number]
    mean, std = pixel_statistics(images, index)
    pixels = images[index].numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=0, atol=5.1e-5)
    assert pixel_statistics(images, index.flip(0)) == (mean, std)


def test_pixels_that_are_all_one_cannot_be_normalised() -> None:
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    images[:, :2, 0] = 200
    images[:, 2] = 9
    with pytest.raises(ValueError, match=r"but channel 2 has 9 throughout; set data\.mean and data\.std"):
        pixel_statistics(images, torch.arange(4))
