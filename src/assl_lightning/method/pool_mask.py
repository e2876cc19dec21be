"""Samples of a pool that a user names, by index or by mask, as tensors, arrays, columns of tables or data sets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from assl_lightning.method.indexed_dataset import IndexedDataset
from assl_lightning.method.top_k import chunks

Samples = Tensor | Iterable[int] | Subset[Any] | IndexedDataset
"""A mask of the pool, pool indices, or a part of the pool; see `as_mask`."""


def as_mask(what: str, samples: Samples, num_samples: int, device: torch.device) -> Tensor:
    """Return samples as a mask of the pool, (N,) bool on `device`.

    Args:
        what: the word for a sample in errors, such as "candidate".
        samples: a mask of the pool, (N,) bool, or distinct pool indices in any order, (M,); a tensor, an array, a
            column of pandas by its values, any iterable of whole numbers, or a `Subset` of the pool.
        num_samples: N.

    Raises:
        TypeError: they are neither whole numbers nor bool.
        ValueError: a mask of another shape, or indices that are not distinct, or not in one dimension.
        IndexError: an index outside 0 … N − 1.
    """
    samples = _as_tensor(what, samples)
    if samples.dtype == torch.bool:
        if samples.shape != (num_samples,):
            raise ValueError(
                f"a mask of {what}s must have one entry for each sample of the pool, shape ({num_samples},); got "
                f"shape {tuple(samples.shape)}"
            )
        return samples.to(device)
    if samples.ndim != 1:
        raise ValueError(
            f"{what}s must be pool indices in one dimension, or a mask of the pool; got shape {tuple(samples.shape)}"
        )
    mask = torch.zeros(num_samples, dtype=torch.bool, device=device)
    for rows in chunks(len(samples)):
        index = samples[rows].to(device, torch.int64)
        outside = index[(index < 0) | (index >= num_samples)]
        if len(outside):
            raise IndexError(f"{what} {int(outside[0])} lies outside the pool's 0 … {num_samples - 1}")
        mask[index] = True
    if count_true(mask) != len(samples):
        raise ValueError(
            f"{what}s must be distinct pool indices; got {len(samples)}, {count_true(mask)} of them distinct. "
            f"A mask of the pool must be bool"
        )
    return mask


def count_true(mask: Tensor) -> int:
    """Count the true entries of `mask` (N,); a chunk at a time, since a GPU copies the tensor that it counts."""
    return sum(int(mask[rows].count_nonzero()) for rows in chunks(len(mask)))


def _as_tensor(what: str, samples: Samples) -> Tensor:
    """Return the samples as a tensor of whole numbers, or of True and False."""
    kinds = f"{what}s must be pool indices, which are whole numbers, or a mask of the pool, which is bool"
    if isinstance(samples, (Subset, IndexedDataset)):
        samples = positions_of(samples)
    if isinstance(samples, (str, bytes)) or not (isinstance(samples, Iterable) or hasattr(samples, "__array__")):
        raise TypeError(f"{kinds}; got {samples!r}: give several in a list, even one")
    if not isinstance(samples, Tensor):
        # An array or a column of pandas has a type; of the column the values count, not its own index.
        try:
            array = np.asarray(samples if hasattr(samples, "__array__") else list(samples))
        except (TypeError, ValueError) as error:  # rows of unequal lengths, such as the batches of a loader
            raise TypeError(f"{kinds}; got a {type(samples).__name__} of other things") from error
        if array.dtype.kind in "biuf":
            # torch shares an array's memory, and warns where it may not write there
            samples = torch.as_tensor(array if array.flags.writeable else array.copy())
        else:
            hint = (
                "; names are known where the pool is IndexedDataset(pool, names=…)" if array.dtype.kind == "U" else ""
            )
            raise TypeError(f"{kinds}; got {array.dtype}{hint}")
    if samples.numel() and (samples.is_floating_point() or samples.is_complex()):
        raise TypeError(f"{kinds}; got {samples.dtype}")
    return samples


def positions_of(cut: Subset[Any] | IndexedDataset) -> Tensor:
    """Return the pool indices (M,) int64 of the samples of a `Subset` of the pool, of a Subset of that, and so on."""
    if isinstance(cut, IndexedDataset):
        return torch.arange(len(cut)) if cut.index is None else cut.index
    indices = torch.as_tensor(np.asarray(cut.indices))
    inner = cut.dataset
    return positions_of(inner)[indices] if isinstance(inner, (Subset, IndexedDataset)) else indices
