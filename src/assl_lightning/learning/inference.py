"""An evaluation pass over samples of the pool: logits and features, without a change to modes or gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from assl_lightning.base.copies import first_of_equal, row_digests
from assl_lightning.base.heartbeat import Heartbeat
from assl_lightning.base.processes import gather_parts, in_all_ranks, ranks
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
    is_shared: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return float32 logits (M, C) and features (M, d) of the samples at `index` (M,), on the network's device.

    Equal images get the rows of the first of them, because the last bits of a network's output depend on the position
    in the batch, the batch size, the processor and the precision.

    Args:
        view: (b,) indices on the network's device → (b, channels, height, width) images; those of a `ReadView` are
            read ahead, while the network computes.
        batch_size: samples a forward pass.
        context: entered around each forward pass, for mixed precision.
        is_shared: all ranks of the run make this call together, and each takes some of the forward passes; every rank
            gets the whole. The batches are those of one process.
    """
    device = next(network.parameters()).device
    logits, features, digests, heartbeat = [], [], [], Heartbeat()
    parts = index.split(batch_size)
    count, rank = ranks() if is_shared else (1, 0)
    if len(parts) < count:
        count, rank = 1, 0  # each rank makes the whole pass
    with ExitStack() as stack:
        if count > 1:
            stack.enter_context(in_all_ranks())
        stack.enter_context(evaluation_mode(network))
        for images in stack.enter_context(closing(images_of_parts(view, parts[rank::count], device))):
            digests.append(row_digests(images))
            with context():
                feature = network.features(images)
                logits.append(network.head(feature).float())
            features.append(feature.float())
            if heartbeat.is_due():
                done = sum(map(len, logits)) * count
                log.info("a pass over the pool: %s of %s images", f"{done:,}", f"{len(index):,}")
    found = (digests, logits, features)
    if count > 1:
        digest, logit, feature = (gather_parts(pieces, [len(part) for part in parts]) for pieces in found)
    else:
        digest, logit, feature = map(torch.cat, found)
    first = first_of_equal(digest)
    return logit[first], feature[first]


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
