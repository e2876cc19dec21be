"""Adapt any classifier to the contract of a `FeatureNetwork`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assl_lightning.base.words import first_line
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.compare import compare


class AdaptedNetwork(FeatureNetwork):
    """A classifier without its last linear layer, and that layer as the head. Made by `with_features`.

    Args:
        body: the classifier, with an `nn.Identity` in the place of the layer.
        head: the layer.
        names: those that the layer had in the classifier; () where it was the classifier itself.
    """

    def __init__(self, body: nn.Module, head: nn.Linear, names: Sequence[str]) -> None:
        super().__init__(head, feature_dim=head.in_features, num_classes=head.out_features)
        self.body = body
        self.names = tuple(names)
        self.is_checked = not self.names  # True: its logits were compared with those of the classifier

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, d), the input of the last linear layer of the adapted network."""
        if not (self.is_checked or images.is_meta or torch.compiler.is_compiling()):
            self.check(images[:2])
        features = self.body(self.laid_out(images))
        if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] != self.feature_dim:
            found = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise ValueError(
                f"{type(self.body).__name__} without its last linear layer must give features of shape "
                f"(B, {self.feature_dim}); it gave {found}; write a FeatureNetwork for it"
            )
        return features

    def check(self, images: Tensor) -> None:
        """Raise unless the classifier as it was gives the same for `images` (B, channels, height, width).

        Both are compared in evaluation and, for two images or more, in training, where a dropout behind the layer would
        show. Weights, buffers, modes and generators are put back afterwards. Without a call it is done at the first
        forward pass, with two of its images.

        Raises:
            ValueError: they differ.
        """
        modes = (False, True) if len(images) > 1 else (False,)
        self.is_checked = True  # `features` is called meanwhile
        try:
            compared = (compare(self, self._classify, images, training=training) for training in modes)
            difference = next((found for found in compared if found is not None), None)
        finally:
            self.is_checked = False
        if difference is not None:
            raise ValueError(self._describe(difference))
        self.is_checked = True

    def _classify(self, images: Tensor) -> object:
        """Return what the classifier gave before it was adapted."""
        _put(self.body, self.names, self.head)
        try:
            return self.body(images)
        finally:
            _put(self.body, self.names, nn.Identity())

    def _describe(self, difference: str) -> str:
        name, num_classes = self.names[0], self.num_classes
        rivals = [other for other, outputs in _linear_layers(self.body).items() if outputs == num_classes]
        which = f", of {len(rivals) + 1} layers with {num_classes} outputs the last one defined" if rivals else ""
        advice = f", or define {' or '.join(rivals)} last" if rivals else ""
        return (
            f"{type(self.body).__name__} must give the logits that its last linear layer {name} computes{which}; "
            f"{difference}; return the layer's own output from forward{advice}, or write a FeatureNetwork for it"
        )


def with_features(network: nn.Module, num_classes: int, image_shape: Sequence[int] | None = None) -> FeatureNetwork:
    """Return the network as a `FeatureNetwork` of `num_classes` classes: the network itself if it is one, else wrapped.

    To wrap it, its last `nn.Linear` with `num_classes` outputs, in the order of definition, is taken out and becomes
    the head. That layer must compute the logits: whatever follows it, such as a softmax or a dropout, is found by
    comparing the outputs before and after, and refused. The network is changed, not copied, and its parameters stay the
    same objects.

    Args:
        network: any classifier.
        num_classes: C.
        image_shape: (channels, height, width) of the images on which the outputs are compared at once. None: they are
            compared at the first forward pass.

    Raises:
        ValueError: a compiled network, a `FeatureNetwork` of another number of classes, a network without such a layer
            or for images of another shape, or one whose outputs are not those of the layer. Or it has layers without a
            size yet, and there is no `image_shape`.
    """
    _check_that_it_is_not_compiled(network)
    images = None
    if image_shape is not None:
        images = _like_weights(network, torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0)))
    with _naming_images(network, image_shape):
        adapted = network if isinstance(network, FeatureNetwork) else _adapt(network, num_classes, images)
    if adapted.num_classes != num_classes:
        raise ValueError(
            f"the network must have {num_classes} classes, as the data; {type(network).__name__} has "
            f"{adapted.num_classes}; set its num_classes to ${{data.num_classes}}"
        )
    if isinstance(adapted, AdaptedNetwork) and not (adapted.is_checked or images is None or images.is_meta):
        with _naming_images(network, image_shape):
            adapted.check(images)
    return adapted


@contextmanager
def _naming_images(network: nn.Module, image_shape: Sequence[int] | None) -> Iterator[None]:
    """Say which images torch could not pass through the network."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            f"{type(network).__name__} must take images of {' × '.join(map(str, image_shape or ()))} (channels × "
            f"height × width), as the data has them; it raises: {first_line(error)}"
        ) from error


def _check_that_it_is_not_compiled(network: nn.Module) -> None:
    """Raise for a network that torch.compile was given: training calls its `features` and its `head`, not itself."""
    is_wrapped = "_orig_mod" in dict(network.named_children())
    if is_wrapped or getattr(network, "_compiled_call_impl", None) is not None:
        inner = network.get_submodule("_orig_mod") if is_wrapped else network
        raise ValueError(
            f"the network must not be compiled as a whole; got a compiled {type(inner).__name__}, of which nothing "
            f"compiled would run, because training calls its features and its head; leave torch.compile out, or "
            f"compile a part inside of it, such as network.body = torch.compile(network.body)"
        )


def _like_weights(network: nn.Module, images: Tensor) -> Tensor:
    """Return the images on the device and in the precision of the network's first weights."""
    weights = (weight for weight in network.parameters() if weight.is_floating_point() and not is_lazy(weight))
    first = next(weights, None)
    return images if first is None else images.to(first.device, first.dtype)


def _adapt(network: nn.Module, num_classes: int, images: Tensor | None) -> AdaptedNetwork:
    if any(is_lazy(parameter) for parameter in network.parameters()):
        _give_sizes(network, images)
    head = network.get_submodule(find_head(network, num_classes))
    assert isinstance(head, nn.Linear)
    if head is network:
        return AdaptedNetwork(nn.Identity(), head, ())
    names = [name for name, module in network.named_modules(remove_duplicate=False) if module is head]
    _put(network, names, nn.Identity())
    return AdaptedNetwork(network, head, names)


@torch.no_grad()
def _give_sizes(network: nn.Module, images: Tensor | None) -> None:
    """Pass images through a network whose layers take their sizes from the first ones that they see."""
    if images is None:
        raise ValueError(
            f"{type(network).__name__} has layers without a size yet, such as nn.LazyLinear; pass an image through it "
            f"first, or give with_features the image_shape"
        )
    modes = [(module, module.training) for module in network.modules()]
    network.eval()(images)
    for module, training in modes:
        module.training = training


def _put(network: nn.Module, names: Sequence[str], layer: nn.Module) -> None:
    """Set the `layer` under each of its names."""
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer)


def find_head(network: nn.Module, num_classes: int) -> str:
    """Return the name of the last `nn.Linear` with `num_classes` outputs, "" where it is the network itself.

    Raises:
        ValueError: there is none.
    """
    linear_layers = _linear_layers(network)
    candidates = [name for name, outputs in linear_layers.items() if outputs == num_classes]
    if candidates:
        return candidates[-1]
    found = ", ".join(f"{name or 'itself'} → {outputs}" for name, outputs in linear_layers.items())
    raise ValueError(
        f"{type(network).__name__} must end in an nn.Linear with {num_classes} outputs, one for each class; its linear "
        f"layers are: {found or 'none'}; set its number of classes, or write a FeatureNetwork for it"
    )


def _linear_layers(network: nn.Module) -> dict[str, int]:
    """Return the number of outputs of each linear layer by its name, in the order of definition."""
    return {name: module.out_features for name, module in network.named_modules() if isinstance(module, nn.Linear)}
