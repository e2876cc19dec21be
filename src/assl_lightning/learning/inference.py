"""An evaluation pass over samples of the pool: logits and features, without a change to modes or gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from assl_lightning.base.copies import first_of_equal, row_digests
from assl_lightning.base.heartbeat import Heartbeat
from assl_lightning.learning.views import View, images_of_parts
from assl_lightning.networks.base import FeatureNetwork

log = logging.getLogger(__name__)


@torch.no_grad()
def evaluate(
    network: FeatureNetwork,
    view: View,
    index: Tensor,
    *,
    batch_size: int,
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[Tensor, Tensor]:
    """Return float32 logits (M, C) and features (M, d) of the samples at `index` (M,), on the network's device.

    Equal images get the rows of the first of them, because the last bits of a network's output depend on the position
    in the batch, the batch size, the processor and the precision.

    Args:
        view: (b,) indices on the network's device → (b, channels, height, width) images; those of a `ReadView` are
            read ahead, while the network computes.
        batch_size: samples a forward pass.
        context: entered around each forward pass, for mixed precision.
    """
    device = next(network.parameters()).device
    logits, features, digests, heartbeat = [], [], [], Heartbeat()
    with evaluation_mode(network), closing(images_of_parts(view, index.split(batch_size), device)) as parts:
        for images in parts:
            digests.append(row_digests(images))
            with context():
                feature = network.features(images)
                logits.append(network.head(feature).float())
            features.append(feature.float())
            if heartbeat.is_due():
                log.info("a pass over the pool: %s of %s images", f"{sum(map(len, logits)):,}", f"{len(index):,}")
    first = first_of_equal(torch.cat(digests))
    return torch.cat(logits)[first], torch.cat(features)[first]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode; afterwards each part gets back its own mode, also a frozen one."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
