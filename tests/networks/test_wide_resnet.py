"""The oracle is the published block, written with functional calls; the count is the definition added up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assl_lightning.networks.wide_resnet import WideResNet


def count_from_definition(num_classes: int, channels: int, depth: int, widen_factor: int) -> int:
    total, width_in = 9 * channels * 16, 16
    for width in (16 * widen_factor, 32 * widen_factor, 64 * widen_factor):
        for _ in range((depth - 4) // 6):
            total += 2 * width_in + 9 * width_in * width + 2 * width + 9 * width * width
            total += width_in * width if width_in != width else 0
            width_in = width
    return total + 2 * width_in + width_in * num_classes + num_classes


def naive_features(network: WideResNet, images: Tensor) -> Tensor:
    """The published forward pass of a depth-10 network in training mode, from its parameters alone."""
    parameters = list(network.stem.parameters()) + list(network.blocks.parameters()) + list(network.final.parameters())
    remaining = iter(parameters)

    def activate(maps: Tensor) -> Tensor:
        mean = maps.mean((0, 2, 3), keepdim=True)
        variance = maps.var((0, 2, 3), correction=0, keepdim=True)
        weight, bias = next(remaining), next(remaining)
        normalised = (maps - mean) / (variance + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]
        return torch.where(normalised > 0, normalised, 0.1 * normalised)

    maps = F.conv2d(images, next(remaining), padding=1)
    for group in range(3):
        stride = 1 if group == 0 else 2
        activated = activate(maps)
        shortcut = activated if group == 0 else maps
        residual = F.conv2d(activated, next(remaining), padding=1, stride=stride)
        residual = F.conv2d(activate(residual), next(remaining), padding=1)
        if shortcut.shape != residual.shape:
            shortcut = F.conv2d(shortcut, next(remaining), stride=stride)
        maps = shortcut + residual
    features = activate(maps).mean((2, 3))
    assert next(remaining, None) is None
    return features


@pytest.mark.parametrize(
    ("num_classes", "channels", "depth", "widen_factor"), [(10, 3, 28, 2), (100, 1, 28, 2), (10, 3, 10, 1)]
)
def test_parameters_are_as_many_as_the_definition_adds_up_to(
    num_classes: int, channels: int, depth: int, widen_factor: int
) -> None:
    network = WideResNet(num_classes, channels=channels, depth=depth, widen_factor=widen_factor)
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == count_from_definition(num_classes, channels, depth, widen_factor)
    assert network.feature_dim == 64 * widen_factor


def test_the_network_of_fixmatch_has_one_and_a_half_million_parameters() -> None:
    assert sum(parameter.numel() for parameter in WideResNet(10).parameters()) == 1_467_610


@pytest.mark.parametrize("widen_factor", [1, 2])
def test_features_equal_the_published_blocks(widen_factor: int) -> None:
    torch.manual_seed(0)
    network = WideResNet(4, depth=10, widen_factor=widen_factor).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.randn(3, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network.features(images), naive_features(network, images))


def test_the_running_statistics_take_a_thousandth_of_a_batch() -> None:
    network = WideResNet(10, depth=10)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 7
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    first = norms[0]
    with torch.no_grad():
        batch_mean = network.stem(images).mean((0, 2, 3))
        network(images)
    assert first.running_mean is not None
    torch.testing.assert_close(first.running_mean, 0.001 * batch_mean)
    assert {norm.momentum for norm in norms} == {0.001}


def test_initial_weights_keep_the_spread_of_a_map_backwards() -> None:
    network = WideResNet(1000)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert isinstance(network.head, nn.Linear)
    assert network.head.weight.std().item() == pytest.approx((2 / (128 + 1000)) ** 0.5, rel=0.05)
    assert network.head.bias.abs().max() == 0


def test_dropout_acts_in_training_and_not_in_evaluation() -> None:
    network = WideResNet(10, depth=10, dropout=0.5)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(network(images), network(images))
        network.eval()
        torch.testing.assert_close(network(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 27}, "depth must be 6 · blocks per group \\+ 4, such as 10, 16, 22 or 28; got 27"),
        ({"depth": 4}, "depth must be an integer of at least 10; got 4"),
        ({"widen_factor": 0}, "widen_factor must be an integer of at least 1; got 0"),
        ({"dropout": -0.1}, r"dropout must be a probability in \[0, 1\); got -0.1"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WideResNet(10, **arguments)
