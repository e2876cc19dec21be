"""Image networks under one contract: `features(images)`, `head(features)` and their composition, the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.networks.base import FeatureNetwork as FeatureNetwork
    from assl_lightning.networks.libraries import timm_network as timm_network
    from assl_lightning.networks.libraries import torchvision_network as torchvision_network
    from assl_lightning.networks.resnet import ResNet18 as ResNet18
    from assl_lightning.networks.small import SmallCNN as SmallCNN
    from assl_lightning.networks.vit import ViTSmall as ViTSmall
    from assl_lightning.networks.wide_resnet import WideResNet as WideResNet

__getattr__, __dir__ = make_face(
    __name__,
    {
        "networks.base": ["FeatureNetwork"],
        "networks.libraries": ["timm_network", "torchvision_network"],
        "networks.resnet": ["ResNet18"],
        "networks.small": ["SmallCNN"],
        "networks.vit": ["ViTSmall"],
        "networks.wide_resnet": ["WideResNet"],
    },
)
