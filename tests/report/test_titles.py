from __future__ import annotations

from typing import Any

import pytest

from assl_lightning.report.titles import title_in_words

SMALL = {"_target_": "assl_lightning.networks.SmallCNN", "width": 16}


def title(name: str, data: dict[str, Any], network: dict[str, Any] | None = None) -> str:
    return title_in_words({"name": name, "data": data, "network": network or SMALL}, 3)


@pytest.mark.parametrize(
    ("name", "data", "subject"),
    [
        ("digits", {"name": "digits"}, "Digits"),
        ("digits_short", {"name": "digits"}, "Digits short"),
        ("cifar10", {"name": "cifar10"}, "CIFAR-10"),
        ("fashion_short", {"name": "fashion_mnist"}, "Fashion short"),
        ("castings", {"name": "image_folder", "root": "photos"}, "Castings"),
        ("image_folder", {"name": "image_folder", "root": "/data/castings/train/"}, "Castings"),
        ("folder", {"name": "folder", "root": "photos_of_parts"}, "Photos of parts"),
        ("folder", {"name": "folder", "root": "train"}, "Train"),
        ("folder", {"name": "folder", "root": "."}, "Folder"),
        ("folders", {"name": "folder", "root": "photos"}, "Folders"),
        ("mine", {}, "Mine"),
    ],
)
def test_the_subject_is_in_words(name: str, data: dict[str, Any], subject: str) -> None:
    assert title(name, data) == f"{subject}: small CNN, 3 classes"


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"_target_": "assl_lightning.networks.ResNet18"}, "ResNet-18"),
        ({"_target_": "assl_lightning.networks.ViTSmall"}, "ViT-small"),
        ({"_target_": "assl_lightning.networks.WideResNet", "depth": 28, "widen_factor": 2}, "WideResNet-28-2"),
        ({"_target_": "assl_lightning.networks.WideResNet"}, "WideResNet"),
        ({"_target_": "assl_lightning.networks.timm_network", "name": "resnet50"}, "resnet50"),
        ({"_target_": "mine.Net"}, "Net"),
    ],
)
def test_the_network_has_its_published_name(network: dict[str, Any], words: str) -> None:
    assert title("digits", {"name": "digits"}, network) == f"Digits: {words}, 3 classes"


def test_an_experiment_that_is_named_for_its_network_names_it_once() -> None:
    network = {"_target_": "assl_lightning.networks.ResNet18"}
    assert title("cifar10_resnet18_continue", {"name": "cifar10"}, network) == "CIFAR-10 continue: ResNet-18, 3 classes"
