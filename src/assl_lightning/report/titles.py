"""Titles of pages and figures in words, from the configuration of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from assl_lightning.base.words import counted

_DATA: Mapping[str, str] = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "digits": "Digits",
    "fashion_mnist": "Fashion-MNIST",
    "mini_imagenet": "MiniImageNet",
}
_OWN_IMAGES = ("folder", "image_folder")  # data whose name says nothing; their directory does
_PARTS = ("train", "training", "images", "pool")  # directories that are named for a part of the data

_NETWORKS: Mapping[str, str] = {
    "SmallCNN": "small CNN",
    "ResNet18": "ResNet-18",
    "ViTSmall": "ViT-small",
    "WideResNet": "WideResNet-{depth}-{widen_factor}",
}


def title_in_words(config: Mapping[str, Any], num_classes: int) -> str:
    """Return the subject of a run, its network and its number of classes.

    Args:
        config: the run's; its `name`, `data` and `network` are looked at.
        num_classes: C.

    >>> data = {"name": "image_folder", "root": "photos/castings/train"}
    >>> network = {"_target_": "assl_lightning.networks.SmallCNN", "width": 16}
    >>> title_in_words({"name": "image_folder", "data": data, "network": network}, 3)
    'Castings: small CNN, 3 classes'
    """
    classes = counted(num_classes, "class") if num_classes == 1 else f"{num_classes:,} classes"
    return f"{_subject(config)}: {_network(config['network'])}, {classes}"


def _subject(config: Mapping[str, Any]) -> str:
    """Return the run's name in words, in which the name of known data is spelt as usual; their own name without one."""
    data = str(config["data"].get("name", ""))
    name = str(config.get("name") or data)
    own = _directory(config["data"]) if data in _OWN_IMAGES else None
    rest = name.removeprefix(data)
    if rest and rest[0] not in "_- ":
        return _capitalised(name)
    begins = own or _DATA.get(data) or _capitalised(data) if name.startswith(data) else ""
    network = str(config["network"].get("_target_", "")).rpartition(".")[2].lower()
    words = [word for word in rest.replace("-", "_").split("_") if word and word.lower() != network]
    return " ".join([begins, *words]) if begins else _capitalised(name)


def _directory(data: Mapping[str, Any]) -> str | None:
    """Return the name of the directory with a run's own images, or of the one above it if it names a part."""
    parts = [part for part in PurePath(str(data.get("root") or "")).parts if part not in ("/", ".", "..", "~")]
    while len(parts) > 1 and parts[-1].lower() in _PARTS:
        parts.pop()
    return _capitalised(parts[-1]) if parts else None


def _network(network: Mapping[str, Any]) -> str:
    """Return the network's name as it is published; for those of libraries the name that the configuration has."""
    kind = str(network.get("_target_", "")).rpartition(".")[2]
    if kind not in _NETWORKS:
        return str(network.get("name") or kind or "a network")
    try:
        return _NETWORKS[kind].format(**network)
    except KeyError:
        return kind


def _capitalised(name: str) -> str:
    words = " ".join(name.replace("_", " ").split())
    return words[:1].upper() + words[1:]
