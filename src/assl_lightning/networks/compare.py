"""Compare what two forms of one network give, and leave no trace of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from assl_lightning.base.generators import generators_kept
from assl_lightning.networks.base import FeatureNetwork

_TOLERANCE = 1e-3  # of the largest logit; a layer that is applied in another order of sums differs by about 1e-6


@torch.no_grad()
def compare(
    network: FeatureNetwork, original: Callable[[Tensor], object], images: Tensor, *, training: bool
) -> str | None:
    """Return how `original` differs from the logits of `network` for the same images; None where they are the same.

    The head has random weights meanwhile: one that begins at zero would hide what follows it. Both draw the same random
    numbers. What differs from itself, for instance since its random numbers are not torch's, cannot be compared.

    Args:
        network: gives logits by `head(features(images))`.
        original: another form of the same network, with the same parameters.
        images: (B, channels, height, width) on the network's device.
        training: compare in training mode, else in evaluation mode.
    """

    def run(forward: Callable[[Tensor], object]) -> tuple[Any, Tensor | None]:
        """Return the output, and the last one of the head."""
        seen: list[Tensor] = []
        hook = network.head.register_forward_hook(lambda *passed: seen.append(passed[-1]))
        try:
            with _traceless(network, images.device), torch.autocast(images.device.type, enabled=False):
                network.train(training)
                for parameter in network.head.parameters():
                    parameter.normal_(std=0.1)
                return forward(images), seen[-1] if seen else None
        finally:
            hook.remove()

    mode = "while it is trained" if training else "in evaluation"
    given, of_head = run(original)
    try:
        logits, _ = run(network)
    except (ValueError, TypeError, RuntimeError, AttributeError, IndexError):
        if not isinstance(given, Tensor) or given.shape != (len(images), network.num_classes):
            raise
        return f"{mode} it gives {_describe(given, of_head)}"
    if isinstance(given, Tensor) and (_agree(given, logits) or not _agree(given, run(original)[0])):
        return None
    return f"{mode} it gives {_describe(given, of_head)}"


def _describe(given: object, of_head: Tensor | None) -> str:
    if not isinstance(given, Tensor):
        return f"a {type(given).__name__}"
    if of_head is None:
        return "something else, without calling the layer"
    kinds = {"their softmax": of_head.softmax(-1), "their log-softmax": of_head.log_softmax(-1)}
    return next((name for name, value in kinds.items() if _agree(given, value)), "something else")


def _agree(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    one, other = one.float(), other.float()
    scale = torch.nan_to_num(other).abs().max().item()
    return torch.allclose(one, other, rtol=0, atol=_TOLERANCE * scale, equal_nan=True)


@contextmanager
def _traceless(network: FeatureNetwork, device: torch.device) -> Iterator[None]:
    """Let torch draw the same random numbers in each such block; put modes, buffers and the head's weights back."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    weights = [(parameter, parameter.clone()) for parameter in network.head.parameters()]
    try:
        with generators_kept([device], key=0):
            yield
    finally:
        for parameter, value in weights:
            parameter.copy_(value)
        for module, name, buffer, value in buffers:
            module._buffers[name] = buffer.copy_(value)
        for module, mode in modes:
            module.training = mode
