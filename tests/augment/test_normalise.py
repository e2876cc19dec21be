from __future__ import annotations

import numpy as np
import pytest
import torch

from assl_lightning.augment import Normalise

CIFAR10 = Normalise(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))


def test_every_level_of_every_channel_is_normalised_by_definition() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    levels = np.arange(256, dtype=np.float64).reshape(1, 1, 16, 16)
    mean, std = np.array(CIFAR10.mean).reshape(1, 3, 1, 1), np.array(CIFAR10.std).reshape(1, 3, 1, 1)
    expected = torch.from_numpy((levels / 255 - mean) / std).expand(2, 3, 16, 16)
    normalised = CIFAR10(images)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.double(), expected, rtol=1e-6, atol=1e-6)


def test_an_empty_batch_stays_empty() -> None:
    assert CIFAR10(torch.zeros(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 8, 8)


def test_lists_of_a_configuration_become_tuples() -> None:
    normalise = Normalise(mean=[0.5, 0], std=[1, 0.25])  # type: ignore[arg-type]
    assert normalise == Normalise(mean=(0.5, 0.0), std=(1.0, 0.25))
    assert hash(normalise)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), (0.5,), "one mean and one std per channel; got 2 means and 1 stds"),
        ((), (), "one mean and one std per channel; got 0 means and 0 stds"),
        ((0.5,), (0.0,), r"Normalise\.std must be positive and finite; got \(0\.0,\)"),
        ((0.5,), (float("inf"),), r"Normalise\.std must be positive and finite; got \(inf,\)"),
        ((float("nan"),), (0.5,), r"Normalise\.mean must be finite; got \(nan,\)"),
    ],
)
def test_impossible_statistics_are_refused(mean: tuple[float, ...], std: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Normalise(mean, std)


def test_images_with_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, height, width\), .* got torch\.uint8 of shape \(2, 1, 8, 8\)"):
        CIFAR10(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_images_that_are_floats_already_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes uint8 images .* got torch\.float32"):
        CIFAR10(torch.zeros(2, 3, 8, 8))
