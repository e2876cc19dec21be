"""Networks of torchvision and timm by their names, for the data's classes and size, with weights from a local file."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import torchvision.models
from torch import nn

from assl_lightning.base.arguments import require_integers
from assl_lightning.base.extras import install_command
from assl_lightning.base.words import nearest
from assl_lightning.networks.adapt import find_head, with_features
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.weights import load_weights


def torchvision_network(
    name: str,
    num_classes: int,
    channels: int = 3,
    image_size: Sequence[int] | None = None,
    weights: str | Path | None = None,
) -> FeatureNetwork:
    """Make a classifier of `torchvision.models`, such as "efficientnet_b0", with random weights or a local file's.

    `load_weights` reads the file; nothing is downloaded. All networks take three `channels`. One that is made for
    images of one size, such as a ViT, is made for `image_size`.

    Raises:
        ValueError: there is no such classifier, other channels, or no square `image_size` where one is needed.
    """
    require_integers(1, num_classes=num_classes)
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ValueError(f"name must be a classifier of torchvision.models; got {name!r}{nearest(name, names)}")
    if channels != 3:
        raise ValueError(f"networks of torchvision take 3 channels; got {channels}: set data.channels=3")
    size: dict[str, Any] = {}
    if name.startswith("vit_") and image_size is not None:
        height, width = image_size
        if height != width:
            raise ValueError(f"{name} takes square images; got image_size={[height, width]}")
        size = {"image_size": height}
    network = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **size, **_of_heads(name))
    return _adapt(network, num_classes, weights)


def _of_heads(name: str) -> dict[str, bool]:
    """Leave out the auxiliary heads of GoogLeNet and Inception v3, whose logits training would receive too."""
    kind = get_type_hints(torchvision.models.get_model_builder(name))["return"]
    taken = inspect.signature(kind).parameters
    return {"aux_logits": False, "init_weights": True} if "aux_logits" in taken else {}


def timm_network(
    name: str,
    num_classes: int,
    channels: int = 3,
    image_size: Sequence[int] | None = None,
    weights: str | Path | None = None,
) -> FeatureNetwork:
    """Make a network of the package timm, with random weights or a local file's.

    `load_weights` reads the file; nothing is downloaded. The first layer takes `channels`. A network that is made for
    images of one size, such as a ViT, is made for `image_size`.

    Raises:
        ImportError: timm is not installed.
        ValueError: there is no such network, or its logits are not computed by one linear layer.
    """
    require_integers(1, num_classes=num_classes, channels=channels)
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            f"network=timm needs the package timm, which is not installed; install it with {install_command('timm')}"
        ) from error
    architecture = name.partition(".")[0]  # what follows a dot names weights that timm would download
    if not timm.is_model(architecture):
        names = timm.list_models()
        raise ValueError(f"name must be a network of timm; got {name!r}{nearest(architecture, names)}")
    defaults = timm.get_pretrained_cfg(architecture)
    size: dict[str, Any] = {}
    if defaults is not None and defaults.fixed_input_size and image_size is not None:
        size = {"img_size": tuple(image_size)}
    network: Any = timm.create_model(architecture, pretrained=False, num_classes=num_classes, in_chans=channels, **size)
    classifier = network.get_classifier()
    adapted = _adapt(network, num_classes, weights)
    if adapted.head is classifier:
        return adapted
    raise ValueError(
        f"{name} must make its logits by one linear layer; it has {type(classifier).__name__}: write a FeatureNetwork "
        f"for it"
    )


def _adapt(network: nn.Module, num_classes: int, weights: str | Path | None) -> FeatureNetwork:
    if weights is not None:
        load_weights(network, find_head(network, num_classes), weights)
    return with_features(network, num_classes)
