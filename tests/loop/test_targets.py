"""Test that the `_target_`s of earlier versions have a present name, which stays when files move."""

from __future__ import annotations

from pkgutil import resolve_name

import pytest
from omegaconf import OmegaConf

from assl_lightning.config.compose import conf_dir
from assl_lightning.loop.targets import present_target, with_present_targets

OF_THE_FIRST_VERSION = [
    "acquisition.alfa_mix.ALFAMix",
    "acquisition.assl.ASSL",
    "acquisition.assl_div.ASSLDiv",
    "acquisition.badge.BADGE",
    "acquisition.bald.BALD",
    "acquisition.cdal.CDAL",
    "acquisition.coreset.CoreSet",
    "acquisition.kmeans_plus_plus.KMeansPlusPlus",
    "acquisition.random.RandomSampling",
    "acquisition.scikit_activeml.ScikitActiveML",
    "acquisition.uncertainty.Entropy",
    "acquisition.uncertainty.LeastConfidence",
    "acquisition.uncertainty.Margin",
    "acquisition.uncertainty.PseudoEL2N",
    "algorithms.fixmatch.FixMatch",
    "algorithms.supervised.Supervised",
    "augment.strong.StrongAugment",
    "augment.weak.WeakAugment",
    "callbacks.snapshots.PoolSnapshots",
    "data.sources.any_dataset.load_dataset",
    "data.sources.cifar.load_cifar10",
    "data.sources.cifar.load_cifar100",
    "data.sources.digits.load_digits",
    "data.sources.fashion_mnist.load_fashion_mnist",
    "data.sources.huggingface.load_huggingface",
    "data.sources.mini_imagenet.load_mini_imagenet",
    "data.sources.own_images.load_folder",
    "data.sources.own_images.load_image_folder",
    "data.sources.own_images.load_manifest",
    "data.sources.svhn.load_svhn",
    "data.sources.torchvision_sets.load_torchvision",
    "labelling.label_studio.exchange.label_studio",
    "labelling.tools.LabelsByFile",
    "labelling.tools.LabelsByPage",
    "networks.libraries.timm_network",
    "networks.libraries.torchvision_network",
    "networks.resnet.ResNet18",
    "networks.small.SmallCNN",
    "networks.vit.ViTSmall",
    "networks.wide_resnet.WideResNet",
    "oracles.held_back_labels",
    "people.People",
]


def targets_of(node: object) -> set[str]:
    if isinstance(node, dict):
        return (
            {str(node["_target_"])}
            if isinstance(node.get("_target_"), str)
            else set().union(*(targets_of(value) for value in node.values()))
        )
    return set().union(*(targets_of(item) for item in node)) if isinstance(node, list) else set()


@pytest.mark.parametrize("former", OF_THE_FIRST_VERSION)
def test_a_former_target_has_a_present_name_in_the_face_of_a_folder(former: str) -> None:
    present = present_target(f"assl_lightning.{former}")

    assert len(present.split(".")) == 3
    assert callable(resolve_name(present))
    assert present_target(present) == present


def test_the_configuration_names_only_faces() -> None:
    files = sorted(conf_dir().rglob("*.yaml"))
    plain = [OmegaConf.to_container(OmegaConf.load(file), resolve=False) for file in files]
    ours = {target for node in plain for target in targets_of(node) if target.startswith("assl_lightning.")}

    assert len(ours) > 35
    assert {target for target in ours if present_target(target) != target or len(target.split(".")) != 3} == set()
    assert all(callable(resolve_name(target)) for target in ours)


def test_targets_are_replaced_wherever_they_stand() -> None:
    node = {
        "network": {"_target_": "assl_lightning.networks.small.SmallCNN", "width": 4},
        "trainer": {"callbacks": [{"_target_": "assl_lightning.callbacks.snapshots.PoolSnapshots"}, 3]},
        "name": "assl_lightning.networks.small.SmallCNN",
        "other": {"_target_": "torch.optim.SGD"},
    }

    assert with_present_targets(node) == {
        "network": {"_target_": "assl_lightning.networks.SmallCNN", "width": 4},
        "trainer": {"callbacks": [{"_target_": "assl_lightning.learning.PoolSnapshots"}, 3]},
        "name": "assl_lightning.networks.small.SmallCNN",
        "other": {"_target_": "torch.optim.SGD"},
    }
