"""Shapes at the sizes that it is for, and that it learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from assl_lightning.networks.small import SmallCNN


@pytest.mark.parametrize(("height", "width_of_image"), [(8, 8), (9, 8), (16, 16), (28, 28), (32, 32)])
@pytest.mark.parametrize(("channels", "width"), [(1, 32), (3, 4)])
def test_any_image_of_eight_pixels_or_more_has_features(
    height: int, width_of_image: int, channels: int, width: int
) -> None:
    network = SmallCNN(10, channels=channels, width=width)
    images = torch.randn(2, channels, height, width_of_image)
    features = network.features(images)
    assert features.shape == (2, 4 * width) == (2, network.feature_dim)
    assert features.min() >= 0
    assert network(images).shape == (2, 10)


def test_an_image_below_eight_pixels_is_refused() -> None:
    message = r"at least 8 × 8 pixels; got images of shape \(2, 1, 7, 8\)"
    with pytest.raises(ValueError, match=message):
        SmallCNN(10)(torch.zeros(2, 1, 7, 8))


def test_it_learns_where_a_bright_square_is() -> None:
    torch.manual_seed(0)
    network = SmallCNN(2, width=8)
    labels = torch.arange(64) % 2
    images = 0.1 * torch.randn(64, 1, 8, 8)
    images[labels == 1, :, 2:6, 2:6] += 1.0
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(60):  # the running statistics need as many to follow
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        assert network.eval()(images).argmax(dim=1).eq(labels).all()


def test_a_width_of_zero_is_named() -> None:
    with pytest.raises(ValueError, match="width must be an integer of at least 1; got 0"):
        SmallCNN(10, width=0)


def test_parameters_are_as_many_as_the_definition_adds_up_to() -> None:
    convolutions = 9 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (16 + 32 + 64 + 64)
    found = sum(parameter.numel() for parameter in SmallCNN(10, channels=3, width=16).parameters())
    assert found == convolutions + norms + 64 * 10 + 10
