"""One evaluation pass over some of the pool: logits and features, with the mode and the gradient left as they were."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from assl_lightning.networks.base import FeatureNetwork


@torch.no_grad()
def evaluate(
    network: FeatureNetwork,
    view: Callable[[Tensor], Tensor],
    index: Tensor,
    *,
    batch_size: int,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[Tensor, Tensor]:
    """Logits (M, C) and features (M, d), float32, of the samples at `index` (M,) int64, on the network's device.

    Args:
        view: (b,) indices on the network's device → (b, channels, height, width) images.
        batch_size: samples a forward pass.
        context: entered around each forward pass, for mixed precision.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    logits, features = [], []
    try:
        for part in index.to(device).split(batch_size):
            with context():
                feature = network.features(view(part))
                logits.append(network.head(feature).float())
            features.append(feature.float())
    finally:
        network.train(was_training)
    return torch.cat(logits), torch.cat(features)
