"""The `_target_`s of this package in runs that an earlier version began: names of files that have moved since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES: Mapping[str, tuple[str, ...]] = {
    "acquisition": (
        *("ALFAMix", "ASSL", "ASSLDiv", "BADGE", "BALD", "CDAL", "CoreSet", "Entropy", "KMeansPlusPlus"),
        *("LeastConfidence", "Margin", "PseudoEL2N", "RandomSampling", "ScikitActiveML"),
    ),
    "augment": ("StrongAugment", "WeakAugment"),
    "data": (
        *("load_cifar10", "load_cifar100", "load_dataset", "load_digits", "load_fashion_mnist", "load_folder"),
        *("load_huggingface", "load_image_folder", "load_manifest", "load_mini_imagenet", "load_svhn"),
        "load_torchvision",
    ),
    "learning": ("FixMatch", "PoolSnapshots", "SimCLR", "Supervised"),
    "loop": ("held_back_labels",),
    "networks": ("ResNet18", "SmallCNN", "ViTSmall", "WideResNet", "timm_network", "torchvision_network"),
    "people": ("LabelsByFile", "LabelsByPage", "People", "labels_by_label_studio"),
}
"""A folder → what it offers to a `_target_`, under names that stay when a file moves."""

_PRESENT = {name: f"assl_lightning.{folder}.{name}" for folder, names in _NAMES.items() for name in names}
_PRESENT["label_studio"] = _PRESENT["labels_by_label_studio"]


def present_target(target: str) -> str:
    """Return the name that a class or function of this package has now; other names stay as they are.

    >>> present_target("assl_lightning.algorithms.fixmatch.FixMatch"), present_target("my_package.FixMatch")
    ('assl_lightning.learning.FixMatch', 'my_package.FixMatch')
    """
    package, _, path = target.partition(".")
    return _PRESENT.get(path.rpartition(".")[2], target) if package == "assl_lightning" else target


def with_present_targets(node: Any) -> Any:
    """Return a tree of dictionaries and lists whose `_target_`s have the names of now."""
    if isinstance(node, Mapping):
        return {
            key: present_target(value) if key == "_target_" and isinstance(value, str) else with_present_targets(value)
            for key, value in node.items()
        }
    return [with_present_targets(item) for item in node] if isinstance(node, list) else node
