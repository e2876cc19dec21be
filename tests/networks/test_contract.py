"""What every network in conf/network must do. A new YAML there is tested without a new line here."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from assl_lightning.networks.adapt import with_features
from assl_lightning.networks.base import FeatureNetwork

CONF = Path(__file__).parents[2] / "conf" / "network"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def build(name: str, num_classes: int, channels: int) -> FeatureNetwork:
    if name == "timm":
        pytest.importorskip("timm", reason="the package timm is not installed")
    config = OmegaConf.create({"data": {"num_classes": num_classes, "channels": channels, "image_size": [32, 32]}})
    config.network = OmegaConf.load(CONF / f"{name}.yaml")
    return with_features(instantiate(config.network), num_classes)


def takes_channels(name: str) -> bool:
    return "channels" in OmegaConf.load(CONF / f"{name}.yaml") and name != "torchvision"  # which takes colour alone


def test_the_networks_of_the_paper_are_there() -> None:
    assert {"resnet18", "vit_small", "wide_resnet", "small_cnn", "torchvision", "timm"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_configured_network_keeps_the_contract(name: str) -> None:
    network = build(name, num_classes=7, channels=3).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.features(images)
        logits = network(images)
    assert features.shape == (3, network.feature_dim)
    assert logits.shape == (3, network.num_classes) == (3, 7)
    assert logits.isfinite().all()
    torch.testing.assert_close(logits, network.head(features), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_depend_on_the_others_in_evaluation(name: str) -> None:
    network = build(name, num_classes=7, channels=3).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(images)[1:], network(images[1:]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if takes_channels(name)])
def test_a_grey_image_is_taken_where_the_channels_are_an_argument(name: str) -> None:
    network = build(name, num_classes=4, channels=1).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 4)


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_load_safely_into_another_one(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=7, channels=3).eval()
    other = build(name, num_classes=7, channels=3).eval()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = other(images)
        other.load_state_dict(torch.load(file, weights_only=True))
        torch.testing.assert_close(other(images), network(images), rtol=0, atol=0)
        assert not torch.equal(before, network(images))


def strides(network: FeatureNetwork) -> set[bool]:
    """Whether convolutions that have two orders in memory are channels last."""
    weights = [weight for weight in network.parameters() if weight.ndim == 4 and min(weight.shape[1:]) > 1]
    return {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights}


@pytest.mark.parametrize("name", NAMES)
def test_it_can_lie_in_memory_in_either_order_and_load_weights_of_the_other(name: str) -> None:
    torch.manual_seed(0)
    network = build(name, num_classes=7, channels=3).eval()
    is_own = name in ("resnet18", "wide_resnet", "small_cnn")
    assert strides(network) == {is_own}, "this package's convolutional networks are channels last"
    assert network.memory_format == ("channels_last" if is_own else "auto")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = network(images)
        for asked, is_last in (("channels_last", True), ("contiguous", False)):
            other = build(name, num_classes=7, channels=3).eval()
            other.lay_out(asked)  # type: ignore[arg-type]
            other.load_state_dict(network.state_dict())
            assert strides(other) == strides(deepcopy(other)) == {is_last}
            assert other.laid_out(images).is_contiguous(memory_format=torch.channels_last) is is_last
            torch.testing.assert_close(other(images), logits, rtol=1e-4, atol=1e-4)
        same = deepcopy(network)
        same.lay_out("auto")
        torch.testing.assert_close(same(images), logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_configuration_begins_with_what_it_is(name: str) -> None:
    assert (CONF / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    torch.manual_seed(3)
    first = build(name, num_classes=7, channels=3).state_dict()
    torch.manual_seed(3)
    second = build(name, num_classes=7, channels=3).state_dict()
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_network_says_whether_batches_matter_in_training(name: str) -> None:
    network = build(name, num_classes=7, channels=3).double().train()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, part = network.features(images)[1:], network.features(images[1:])
    assert network.samples_are_independent == torch.allclose(whole, part, rtol=1e-9, atol=1e-9)
