"""Adapt any classifier to the contract of a `FeatureNetwork`."""

from __future__ import annotations

from torch import Tensor, nn

from assl_lightning.networks.base import FeatureNetwork


class AdaptedNetwork(FeatureNetwork):
    """A classifier without its last linear layer, and that layer as the head. Made by `with_features`."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__(head, feature_dim=head.in_features, num_classes=head.out_features)
        self.body = body

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, d), the input of the last linear layer of the adapted network."""
        features = self.body(images)
        if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] != self.feature_dim:
            found = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise ValueError(
                f"{type(self.body).__name__} without its last linear layer must give features of shape "
                f"(B, {self.feature_dim}); it gave {found}; write a FeatureNetwork for it"
            )
        return features


def with_features(network: nn.Module, num_classes: int) -> FeatureNetwork:
    """Return the network as a `FeatureNetwork` of `num_classes` classes: the network itself if it is one, else wrapped.

    To wrap it, its last `nn.Linear` with `num_classes` outputs, in the order of definition, is taken out and becomes
    the head. That layer must compute the logits: a layer behind it would become part of the features. The network is
    changed, not copied, and its parameters stay the same objects.

    Raises:
        ValueError: a `FeatureNetwork` of another number of classes, or a network without such a layer.
    """
    if isinstance(network, FeatureNetwork):
        if network.num_classes != num_classes:
            raise ValueError(
                f"the network must have {num_classes} classes, as the data; {type(network).__name__} has "
                f"{network.num_classes}; set its num_classes to ${{data.num_classes}}"
            )
        return network
    head_name = find_head(network, num_classes)
    head = network.get_submodule(head_name)
    assert isinstance(head, nn.Linear)
    if not head_name:
        return AdaptedNetwork(nn.Identity(), head)
    parent_name, _, child_name = head_name.rpartition(".")
    setattr(network.get_submodule(parent_name), child_name, nn.Identity())
    return AdaptedNetwork(network, head)


def find_head(network: nn.Module, num_classes: int) -> str:
    """Return the name of the last `nn.Linear` with `num_classes` outputs, "" where it is the network itself.

    Raises:
        ValueError: there is none.
    """
    linear_layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    candidates: list[str] = [name for name, layer in linear_layers.items() if layer.out_features == num_classes]
    if candidates:
        return candidates[-1]
    found = ", ".join(f"{name or 'itself'} → {layer.out_features}" for name, layer in linear_layers.items())
    raise ValueError(
        f"{type(network).__name__} must end in an nn.Linear with {num_classes} outputs, one for each class; its linear "
        f"layers are: {found or 'none'}; set its number of classes, or write a FeatureNetwork for it"
    )
