"""The counts are torchvision's definition added up, and what ALFA-Mix's network has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from assl_lightning.networks.resnet import ResNet18


def count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def record_sides(network: ResNet18, channels: int, size: int) -> list[int]:
    """The side of the map behind the stem's convolution, its pool and each of the four stages."""
    sides: list[int] = []

    def record(module: nn.Module, inputs: Any, output: Tensor) -> None:
        sides.append(output.shape[-1])

    for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        network.trunk.get_submodule(name).register_forward_hook(record)
    network.eval()(torch.zeros(1, channels, size, size))
    return sides


@pytest.mark.parametrize(
    ("num_classes", "embedding_dim", "expected"),
    [(10, 256, 11_310_410), (10, 0, 11_181_642), (10, 512, 11_181_642), (100, 256, 11_333_540)],
)
def test_parameters_are_as_many_as_in_alfa_mix(num_classes: int, embedding_dim: int, expected: int) -> None:
    assert count_parameters(ResNet18(num_classes, embedding_dim=embedding_dim)) == expected


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [
        ("imagenet", 32, [16, 8, 8, 4, 2, 1]),
        ("imagenet", 84, [42, 21, 21, 11, 6, 3]),
        ("cifar", 32, [32, 32, 32, 16, 8, 4]),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_shrink_as_the_stem_says(channels: int, stem: Any, size: int, expected: list[int]) -> None:
    assert record_sides(ResNet18(10, channels=channels, stem=stem), channels, size) == expected


@pytest.mark.parametrize(("stem", "expected_millions"), [("imagenet", 37.0), ("cifar", 555.6)])
def test_the_work_of_an_image_of_32_pixels(stem: Any, expected_millions: float) -> None:
    network = ResNet18(10, stem=stem).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    multiply_adds = counter.get_total_flops() / 2
    assert multiply_adds / 1e6 == pytest.approx(expected_millions, abs=0.5)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("embedding_dim", [0, 64])
def test_logits_are_the_head_of_the_features_in_training_too(stem: Any, channels: int, embedding_dim: int) -> None:
    network = ResNet18(7, channels=channels, stem=stem, embedding_dim=embedding_dim, dropout=0.5)
    images = torch.randn(3, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    features = network.features(images)
    torch.manual_seed(1)
    logits = network(images)
    assert features.shape == (3, embedding_dim or 512)
    torch.testing.assert_close(logits, network.head(features))
    assert logits.shape == (3, 7)


@pytest.mark.parametrize("embedding_dim", [0, 64])
def test_dropout_precedes_the_embedding_and_the_head(embedding_dim: int) -> None:
    network = ResNet18(10, embedding_dim=embedding_dim, dropout=0.25)
    seen: list[tuple[float, int]] = []
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda layer, inputs, output: seen.append((layer.p, output.shape[1])))
    network(torch.zeros(2, 3, 32, 32))
    assert seen == ([(0.25, 512), (0.25, 64)] if embedding_dim else [(0.25, 512)])


def test_the_embedding_has_no_non_linearity() -> None:
    network = ResNet18(10, embedding_dim=256).eval()
    with torch.no_grad():
        features = network.features(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert (features < 0).any()


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_a_stem_of_our_own_starts_with_the_spread_of_torchvisions(stem: Any) -> None:
    convolution = ResNet18(10, channels=8, stem=stem).trunk.get_submodule("conv1")
    assert isinstance(convolution, nn.Conv2d)
    fan_out = 64 * convolution.kernel_size[0] ** 2
    assert convolution.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stem": "cifar10"}, "stem must be one of imagenet, cifar; got 'cifar10'"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1; got 0"),
        ({"channels": True}, "channels must be an integer of at least 1; got True"),
        ({"embedding_dim": -1}, "embedding_dim must be an integer of at least 0; got -1"),
        ({"embedding_dim": 64.0}, "embedding_dim must be an integer of at least 0; got 64.0"),
        ({"dropout": 1.0}, r"dropout must be a probability in \[0, 1\); got 1.0"),
        ({"dropout": "0.1"}, r"dropout must be a probability in \[0, 1\); got '0.1'"),
    ],
)
def test_an_argument_out_of_range_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet18(**{"num_classes": 10, **arguments})


def test_views_that_are_channels_last_reach_the_convolutions_without_a_copy() -> None:
    network = ResNet18(10)
    views = [torch.randn(size, 3, 8, 8).contiguous(memory_format=torch.channels_last) for size in (2, 3, 3)]
    together = torch.cat(views)
    assert network.laid_out(together) is together
    apart = torch.cat([view.contiguous() for view in views])
    assert network.laid_out(apart) is not apart
