"""The oracle is the network itself, before it was wrapped."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.small import SmallCNN

FAMILIES = {
    "resnet18": 512,
    "mobilenet_v3_small": 1024,
    "densenet121": 1024,
    "convnext_tiny": 768,
    "efficientnet_b0": 1280,
    "shufflenet_v2_x0_5": 1024,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_torchvision_network_gives_the_logits_it_gave_before(name: str) -> None:
    network = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    parameters = {id(parameter) for parameter in network.parameters()}
    with torch.no_grad():
        expected = network(images)
        adapted = with_features(network, 7)
        features = adapted.features(images)
        torch.testing.assert_close(adapted(images), expected, rtol=0, atol=0)
        torch.testing.assert_close(adapted.head(features), expected, rtol=0, atol=0)
    assert features.shape == (2, FAMILIES[name]) == (2, adapted.feature_dim)
    assert adapted.num_classes == 7
    assert {id(parameter) for parameter in adapted.parameters()} == parameters


def test_a_hidden_layer_as_wide_as_the_classes_is_not_the_head() -> None:
    hidden, last = nn.Linear(6, 4), nn.Linear(4, 4)
    network = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), last)
    images = torch.randn(3, 6, 1, 1)
    expected = network(images)
    adapted = with_features(network, 4)
    assert adapted.head is last
    torch.testing.assert_close(adapted(images), expected)


def test_a_linear_layer_by_itself_is_its_own_head() -> None:
    layer = nn.Linear(6, 4)
    inputs = torch.randn(3, 6)
    adapted = with_features(layer, 4)
    torch.testing.assert_close(adapted.features(inputs), inputs)
    torch.testing.assert_close(adapted(inputs), layer(inputs))


def test_a_feature_network_is_returned_as_it_is() -> None:
    network = SmallCNN(10)
    assert with_features(network, 10) is network
    adapted = with_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), 10)
    assert with_features(adapted, 10) is adapted


def test_a_copy_of_an_adapted_network_is_independent() -> None:
    adapted = with_features(nn.Sequential(nn.Flatten(), nn.Linear(4, 10)), 10)
    twin = copy.deepcopy(adapted)
    nn.init.zeros_(twin.head.get_parameter("weight"))
    assert adapted.head.get_parameter("weight").abs().sum() > 0


def test_a_feature_network_of_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="the network must have 100 classes, as the data; SmallCNN has 10"):
        with_features(SmallCNN(10), 100)


def test_a_network_of_another_number_of_classes_names_its_linear_layers() -> None:
    network = torchvision.models.mobilenet_v3_small(weights=None, num_classes=10)
    message = r"MobileNetV3 must end in an nn.Linear with 100 outputs.*classifier\.0 → 1024, classifier\.3 → 10;"
    with pytest.raises(ValueError, match=message):
        with_features(network, 100)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Sequential must end in an nn\.Linear with 10 outputs.*layers are: none;"):
        with_features(nn.Sequential(nn.Conv2d(3, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 10)


@pytest.mark.parametrize("maps", [4, 8])
def test_features_that_are_not_rows_are_refused_with_their_shape(maps: int) -> None:
    adapted = with_features(nn.Sequential(nn.Conv2d(3, maps, 1), nn.Linear(8, 10)), 10)
    with pytest.raises(ValueError, match=rf"features of shape \(B, 8\); it gave shape \(2, {maps}, 8, 8\)"):
        adapted(torch.zeros(2, 3, 8, 8))


def test_features_that_are_not_a_tensor_are_refused_with_their_type() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 10)

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            features = images.flatten(1)
            return self.fc(features), features

    adapted = with_features(Pair(), 10)
    with pytest.raises(ValueError, match=r"Pair without its last linear layer .* it gave a tuple"):
        adapted(torch.zeros(2, 1, 2, 2))
