"""Networks of torchvision and timm by name, against the libraries' own, and what is taken from files of weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from torch import nn

from assl_lightning.networks.libraries import timm_network, torchvision_network
from assl_lightning.networks.weights import load_weights

TORCHVISION, HEAD = "mobilenet_v3_small", "classifier.3"
TIMM = {  # name → images, features
    "resnet18": ((1, 32, 32), 512),
    "mobilenetv3_small_050": ((3, 32, 32), 1024),
    "vit_tiny_patch16_224": ((3, 48, 32), 192),
    "convnext_atto": ((3, 32, 32), 320),
    "swin_tiny_patch4_window7_224": ((3, 64, 64), 768),
}


def images_of(*shape: int) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm_gives_the_logits_of_timms_own(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the package timm is not installed")
    (channels, *size), features = TIMM[name]
    fixed = {"img_size": tuple(size)} if "vit" in name or "swin" in name else {}
    own = timm.create_model(name, pretrained=False, num_classes=7, in_chans=channels, **fixed).eval()
    with torch.no_grad():
        for parameter in own.parameters():  # some begin with a head of zeros
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)), alpha=0.05)
    torch.save(own.state_dict(), tmp_path / "own.pth")
    network = timm_network(name, 7, channels, size, tmp_path / "own.pth").eval()
    images = images_of(channels, *size)
    with torch.no_grad():
        expected = own(images)
        assert expected.abs().max() > 1e-3  # not the zeros that some begin with
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
        assert network.features(images).shape == (2, features) == (2, network.feature_dim)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet8"}, r"name must be a network of timm; got 'resnet8' \(did you mean 'resnet18'\?\)"),
        ({"name": "deit_tiny_distilled_patch16_224"}, "must make its logits by one linear layer; it has tuple"),
        ({"name": "resnet18", "num_classes": 0}, "num_classes must be an integer of at least 1; got 0"),
    ],
)
def test_what_timm_cannot_give_is_refused(arguments: dict[str, Any], message: str) -> None:
    pytest.importorskip("timm", reason="the package timm is not installed")
    with pytest.raises(ValueError, match=message):
        timm_network(**{"num_classes": 7, "image_size": [32, 32], **arguments})


def test_auxiliary_heads_are_left_out_and_published_weights_with_them_are_taken(tmp_path: Path) -> None:
    with_heads = torchvision.models.googlenet(weights=None, num_classes=7, aux_logits=True, init_weights=False)
    torch.save(with_heads.state_dict(), tmp_path / "googlenet.pth")

    network = torchvision_network("googlenet", 3, weights=tmp_path / "googlenet.pth").train()
    logits = network(torch.zeros(2, 3, 64, 64))

    assert logits.shape == (2, 3)
    assert [name for name, _ in network.named_parameters() if "aux" in name.lower()] == []
    taken = network.state_dict()["body.conv1.conv.weight"]
    torch.testing.assert_close(taken, with_heads.state_dict()["conv1.conv.weight"])


def test_a_vit_of_torchvision_is_made_for_the_size_of_the_images() -> None:
    with torch.device("meta"):
        network = torchvision_network("vit_b_16", 7, image_size=[32, 32])
        assert network(torch.empty(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "resnet81"},
            r"name must be a classifier of torchvision\.models; got 'resnet81' \(did you mean 'resnet",
        ),
        ({"name": "fcn_resnet50"}, r"got 'fcn_resnet50'"),
        ({"channels": 1}, r"networks of torchvision take 3 channels; got 1: set data\.channels=3"),
        ({"name": "vit_b_16", "image_size": [32, 48]}, r"vit_b_16 takes square images; got image_size=\[32, 48\]"),
        ({"weights": "DEFAULT"}, "weights must be a local file, .*; there is no DEFAULT. Nothing is downloaded"),
    ],
)
def test_what_torchvision_cannot_give_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        torchvision_network(**{"name": TORCHVISION, "num_classes": 7, **arguments})


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """What somebody trained on a thousand classes."""
    torch.manual_seed(1)
    network: nn.Module = torchvision.models.get_model(TORCHVISION, weights=None, num_classes=1000)
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape))  # running statistics, too, as a training leaves them
    return network.eval()


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """As the library's own network names them, before its head was taken out."""
    adapted: Any = network
    return {
        **adapted.body.state_dict(),
        **{f"{HEAD}.{name}": value for name, value in adapted.head.state_dict().items()},
    }


@pytest.mark.parametrize(
    "kind", ["plain", "state_dict", "model", "module.", "model._orig_mod.", "old", "no counters", "safetensors"]
)
def test_a_file_fills_all_but_the_head(
    tmp_path: Path, published: nn.Module, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    state: dict[str, Any] = published.state_dict()
    file = tmp_path / f"{kind}.pth"
    if kind == "safetensors":
        save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
        save_file(state, file := tmp_path / "weights.safetensors")
    elif kind == "old":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    elif kind == "no counters":
        torch.save({name: value for name, value in state.items() if "num_batches" not in name}, file)
    elif kind.endswith("."):
        torch.save({"state_dict": {f"{kind}{name}": value for name, value in state.items()}}, file)
    else:
        torch.save(state if kind == "plain" else {kind: state, "epoch": 3}, file)
    torch.manual_seed(0)
    with caplog.at_level(logging.INFO):
        network = torchvision_network(TORCHVISION, 7, weights=file).eval()
        torchvision_network(TORCHVISION, 7, weights=file)
    found = weights_of(network)
    assert {name for name in state if not torch.equal(found[name], state[name])} == {f"{HEAD}.weight", f"{HEAD}.bias"}
    assert caplog.messages == [f"{file}: taken, but for the head classifier.3, which begins anew"]


@pytest.mark.parametrize("beside", [[], ["judging_head.weight", "judging_head.bias", "running.confidence"]])
def test_a_runs_own_checkpoint_is_taken_with_its_head(tmp_path: Path, beside: list[str]) -> None:
    trained = torchvision_network(TORCHVISION, 7)
    state = {f"network.{name}": value for name, value in trained.state_dict().items()}
    state |= {name: torch.ones(7) for name in beside}  # what its algorithm kept
    torch.save({"state_dict": state, "assl_lightning": {"step": 3}}, tmp_path / "w")
    again = torchvision_network(TORCHVISION, 7, weights=tmp_path / "w")
    torch.testing.assert_close(again.state_dict(), trained.state_dict(), rtol=0, atol=0)


def test_two_networks_in_one_file_are_told_apart_by_their_prefixes(tmp_path: Path) -> None:
    state = Small().state_dict()
    both = {f"{prefix}.{name}": value for prefix in ("encoder_q", "encoder_k") for name, value in state.items()}
    torch.save(both, tmp_path / "both.pth")
    with pytest.raises(ValueError, match=r"Most would fit without the prefix encoder_q\. or encoder_k\., which others"):
        load_weights(Small(), "3", tmp_path / "both.pth")


def test_a_head_that_fits_is_taken_too(tmp_path: Path, published: nn.Module) -> None:
    torch.save(published.state_dict(), tmp_path / "all.pth")
    network = torchvision_network(TORCHVISION, 1000, weights=tmp_path / "all.pth").eval()
    torch.testing.assert_close(weights_of(network), dict(published.state_dict()), rtol=0, atol=0)


class Small(nn.Sequential):
    def __init__(self, width: int = 4) -> None:
        super().__init__(nn.Flatten(), nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 2))


def test_weights_that_are_another_networks_are_named(tmp_path: Path) -> None:
    state = Small(5).state_dict()
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"this very Small, but for its head 3: ") as told:
        load_weights(Small(), "3", tmp_path / "other.pth")
    assert (
        "1.bias has the shape (5,), here (4,); 1.weight has the shape (5, 6), here (4, 6); extra is no weight of this "
        "network. Choose the network that they are of"
    ) in str(told.value)
    del state["1.bias"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"1\.bias is missing\."):
        load_weights(Small(5), "3", tmp_path / "other.pth")


class Harm:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": Harm()}, r"must hold weights, tensors and plain values alone: "),
        ([1, 2], "must hold weights by their names; it holds a list"),
        ({"epoch": 3}, "must hold weights by their names; it has epoch"),
        (None, "must hold weights, tensors and plain values alone: "),
    ],
)
def test_a_file_without_weights_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pth"
    if content is None:
        file.write_bytes(b"nothing")
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=message):
        load_weights(Small(), "3", file)
    assert not (tmp_path / "harm").exists()


def test_a_damaged_file_of_safetensors_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    (tmp_path / "weights.safetensors").write_bytes(b"nothing at all")
    with pytest.raises(ValueError, match=r"weights\.safetensors must be a file of safetensors \("):
        load_weights(Small(), "3", tmp_path / "weights.safetensors")
