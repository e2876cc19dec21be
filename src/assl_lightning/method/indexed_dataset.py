"""A data set whose samples carry their position, and the way back: the index out of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from assl_lightning.base.arguments import whole_number
from assl_lightning.base.words import first_few

KEY = "pool_index"
"""Key under which a sample that is a dictionary carries its position."""


class IndexedDataset(Dataset[Any]):
    """Append to each sample of a map-style data set its position in the pool.

    A tuple or list gets one entry more, a dictionary the key `pool_index`; anything else, such as a bare tensor or a
    named tuple, becomes a pair of itself and the position. `ASSLScoreCallback` takes the position out of each batch of
    a trainer before the module and its hooks see it, so that `x, y = batch` goes on working. A `collate_fn` sees it,
    and must leave it where it is.

    Wrap the whole pool, then cut it: `Subset(IndexedDataset(pool), unlabelled)`. Where a data set was cut before, such
    as one that holds the unlabelled images alone, say with `index` which samples of the pool it has. Attributes of the
    data set, such as `classes`, are those of this one too.

    Args:
        dataset: a data set with `len()` and `[position]`: torch's, torchvision's, of Hugging Face, a Subset, a list.
        names: a name for each sample of `dataset`, in its order, such as its path; for `query(…, names=True)`.
        index: the position in the pool of each sample of `dataset`, in its order; None: its position in `dataset`.

    Raises:
        TypeError: the data set has no length, or cannot be indexed.
        ValueError: `names` or `index` are not as many as the samples, an index is negative or occurs twice, or the
            data set is an IndexedDataset already, or was cut from one.

    >>> IndexedDataset([("cat.png", 0), ("dog.png", 1)])[1]
    ('dog.png', 1, tensor(1))
    >>> IndexedDataset([{"image": "cat.png"}], index=[7])[0]
    {'image': 'cat.png', 'pool_index': tensor(7)}
    """

    dataset: Any
    names: Sequence[str] | None
    index: Tensor | None

    def __init__(
        self, dataset: Any, names: Sequence[str] | None = None, *, index: Tensor | Sequence[int] | None = None
    ) -> None:
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        ):
            raise TypeError(
                f"IndexedDataset needs a map-style data set, with len() and [position]; got {type(dataset).__name__}, "
                f"whose samples have no position"
            )
        if isinstance(dataset, Mapping):
            raise TypeError(
                f"IndexedDataset needs one data set; got a dictionary with the keys {first_few(dataset)}: give one of "
                f"its values"
            )
        if isinstance(dataset, (type, str)):
            raise TypeError(f"IndexedDataset needs an object that is a data set; got {dataset!r}")
        if find_indexed(dataset):
            raise ValueError(
                "the samples have a position already: the data set, or what it was cut from, is wrapped twice"
            )
        self.dataset = dataset
        if isinstance(names, str):
            raise TypeError(f"names must be a list with a name for each sample; got the text {names!r}")
        self.names = None if names is None else [str(name) for name in names]
        if self.names is not None and len(self.names) != len(dataset):
            raise ValueError(f"names must be as many as the samples, {len(dataset)}; got {len(self.names)}")
        self.index = None if index is None else _checked_index(index, len(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int | Sequence[int]) -> Any:
        """Return the sample at a position; or at several, a batch at once, where the data set takes a list of them."""
        return self._append(self.dataset[position], position)

    def __getitems__(self, positions: list[int]) -> list[Any]:
        """Return the samples at several positions, in one call where the data set can."""
        fetch = getattr(self.dataset, "__getitems__", None)
        samples = fetch(positions) if callable(fetch) else [self.dataset[position] for position in positions]
        if len(samples) != len(positions):
            raise ValueError(
                f"__getitems__ of {type(self.dataset).__name__} must return a list with a sample for each of the "
                f"{len(positions)} positions; got {type(samples).__name__} of length {len(samples)}"
            )
        return [self._append(sample, position) for sample, position in zip(samples, positions, strict=True)]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.dataset, name)

    def _append(self, sample: Any, position: int | Sequence[int]) -> Any:
        index = self._index_of(position)
        if isinstance(sample, Mapping):
            if KEY in sample:
                raise ValueError(f"a sample has the key {KEY!r} already; rename it")
            if type(sample) is dict:
                return {**sample, KEY: index}
            sample = copy(sample)
            cast(dict[str, Any], sample)[KEY] = index
            return sample
        if type(sample) is tuple:
            return (*sample, index)
        if type(sample) is list:
            return [*sample, index]
        return sample, index[..., None]  # one axis more tells a pair from a sequence that was made longer

    def _index_of(self, position: Any) -> Tensor:
        """Return the pool index of a position, () int64, or of several, (B,)."""
        if isinstance(position, (list, tuple)) or (hasattr(position, "ndim") and position.ndim == 1):
            return torch.stack([self._index_of(each) for each in position])
        position = whole_number("position", position)
        position = position + len(self) if position < 0 else position
        return torch.tensor(position) if self.index is None else self.index[position].clone()


def take_index(batch: Any, where: str = "the batch") -> tuple[Tensor, Any]:
    """Return the index (B,) int64 that `IndexedDataset` gave a batch, and the batch without it.

    >>> take_index([torch.zeros(2, 3), torch.tensor([8, 5])])
    (tensor([8, 5]), [tensor([[0., 0., 0.],
            [0., 0., 0.]])])

    Raises:
        ValueError: the index is not where `IndexedDataset` put it; the message begins with `where`.
    """
    if isinstance(batch, Mapping):
        if KEY in batch:
            rest = copy(batch)
            return _as_index(cast(dict[str, Any], rest).pop(KEY), where)[0], rest
    elif isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields") and len(batch) > 1:
        index, is_pair = _as_index(batch[-1], where)
        return index, batch[0] if is_pair else batch[:-1]
    raise ValueError(
        f"{where} has no position of its samples where IndexedDataset put it, last or under {KEY!r}; got "
        f"{type(batch).__name__}: a collate_fn must leave it there"
    )


def find_indexed(dataset: Any) -> list[IndexedDataset]:
    """Find the `IndexedDataset`s that a loader's data set is, or was cut (Subset) or put together (ConcatDataset) from.

    An empty list: its samples carry no position.
    """
    if isinstance(dataset, IndexedDataset):
        return [dataset]
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, (list, tuple)):
        found = [find_indexed(part) for part in parts]
        return [indexed for part in found for indexed in part] if all(found) else []
    inner = getattr(dataset, "dataset", None)
    return [] if inner is None or inner is dataset else find_indexed(inner)


def named_samples(indexed: IndexedDataset) -> Iterator[tuple[int, str]]:
    """Yield the pool index and the name of each sample that has one."""
    index = range(len(indexed)) if indexed.index is None else indexed.index.tolist()
    yield from zip(index, indexed.names or (), strict=False)


def _checked_index(index: Tensor | Sequence[int], count: int) -> Tensor:
    index = torch.as_tensor(index)
    if index.shape != (count,) or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            f"index must have one whole number for each of the {count} samples, the position in the pool; got "
            f"{index.dtype} of shape {tuple(index.shape)}"
        )
    if count and (int(index.min()) < 0 or len(index.unique()) != count):
        raise ValueError("index must have distinct positions in the pool, from 0 on; one is negative or occurs twice")
    return index.long().cpu()


def _as_index(values: Any, where: str) -> tuple[Tensor, bool]:
    """Return a batch's index (B,), and whether the samples were pairs of something and its position."""
    if isinstance(values, (list, tuple)) and values:
        if all(isinstance(value, Tensor) and value.dtype == torch.int64 for value in values):
            values = torch.stack(list(values))
        elif all(isinstance(value, int) and not isinstance(value, bool) for value in values):
            values = torch.tensor(values)
    if isinstance(values, Tensor) and values.dtype == torch.int64:
        if values.ndim == 1:
            return values, False
        if values.ndim == 2 and values.shape[1] == 1:
            return values[:, 0], True
    kind = f"{values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    raise ValueError(
        f"{where} should end with the positions of its samples, int64 of shape (B,), as IndexedDataset gives them; got "
        f"{kind}: a collate_fn must leave them there"
    )
