"""The batches that the batch norms of a network count in training: all of them in one launch, not in one for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def counted_together(network: nn.Module) -> Iterator[None]:
    """Pass a batch through the network in this block, each of its batch norms once; the counts are the same as without.

    In training each `nn.BatchNorm2d` adds 1 to its `num_batches_tracked`. For a GPU that is a launch, and ResNet-18 has
    20 of them. Left alone are batch norms of other kinds, such as those of several processes, in evaluation, and with
    `momentum=None`, which need the count for their averages.

    >>> network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    >>> with counted_together(network):
    ...     _ = network(torch.zeros(2, 3, 4, 4))
    >>> [int(norm.num_batches_tracked) for norm in network]
    [1, 1]
    """
    norms = [
        part
        for part in network.modules()
        if type(part) is nn.BatchNorm2d and part.training and part.momentum is not None
    ]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.num_batches_tracked = None  # batch norm then counts nothing
    try:
        yield
    finally:
        for norm, count in zip(norms, counts, strict=True):
            norm.num_batches_tracked = count
    present = [count for count in counts if count is not None]
    if present:
        torch._foreach_add_(present, 1)
