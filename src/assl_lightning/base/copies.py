"""Rows of a tensor that are copies of an earlier row, bit for bit."""

from __future__ import annotations

import torch
from torch import Tensor

from assl_lightning.base.seeding import Draws, derive_key

_KEY = derive_key(0, "row digest")
_MIX = -0x40A7B892E31B1A47  # odd, so that a product loses nothing
_BLOCK_CPU, _BLOCK_GPU = 2**17, 2**24  # numbers at a time: what stays in a CPU's cache, what keeps a GPU busy
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def first_copies(rows: Tensor) -> Tensor:
    """Return (M,) int64: for each of `rows` (M, …), the position of the first row with the same bits."""
    own = torch.arange(len(rows), device=rows.device)
    first = first_of_equal(row_digests(rows))
    later = (first != own).nonzero().squeeze(1)
    equal = (rows[later] == rows[first[later]]).flatten(1).all(1)  # NaN is equal to nothing
    return own.index_copy(0, later[equal], first[later[equal]])


def first_of_equal(digests: Tensor) -> Tensor:
    """Return (M,) int64: for each of `digests` (M,), the position of the first equal one."""
    ascending, order = torch.sort(digests, stable=True)
    starts = torch.cat([torch.ones_like(ascending[:1], dtype=torch.bool), ascending[1:] != ascending[:-1]])
    run = starts.cumsum(0) - 1
    return torch.empty_like(order).index_copy(0, order, order[starts][run])


def row_digests(rows: Tensor) -> Tensor:
    """Return (M,) int64: a 64-bit hash of each of `rows` (M, …). Different rows share one with probability 2⁻⁶⁰.

    The hash is a sum of integers, which does not depend on the order of summation, so it is the same on any device.
    """
    rows = rows.detach().flatten(1).contiguous()
    size = rows.element_size()
    if rows.storage_offset() * size % 8:
        rows = rows.clone()  # a view as int64 begins at a whole one
    words = rows.view(torch.int64 if rows.shape[1] * size % 8 == 0 else _INTEGERS[size])  # (M, w)
    keys = Draws(_KEY, torch.arange(words.shape[1], device=rows.device)).bits(0)
    digests = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    count = max(1, (_BLOCK_CPU if rows.device.type == "cpu" else _BLOCK_GPU) // max(1, words.shape[1]))
    for part, digest in zip(words.split(count), digests.split(count), strict=True):
        mixed = part.to(torch.int64) ^ keys
        mixed *= _MIX
        mixed ^= mixed >> 32
        mixed *= _MIX
        mixed ^= mixed >> 29
        torch.sum(mixed, 1, out=digest)
    return digests
