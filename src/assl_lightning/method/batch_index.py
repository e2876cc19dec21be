"""Take the index out of each training batch before the module, and any of its hooks, sees the batch.

Lightning calls `convert_input` of the trainer's precision plugin on every batch first of all; `IndexTaker` stands there
while a fit trains. Nothing of the module is changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning.method.indexed_dataset import IndexedDataset, find_indexed, named_samples, take_index

Streams = Any
"""The structure of the trainer's loaders, with the `IndexedDataset`s of each, a list, in its place."""


def find_streams(trainer: Trainer) -> Streams:
    """Find the `IndexedDataset`s of the loader that a trainer trains on, or of each of its loaders."""
    return _streams_of(trainer.train_dataloader)


def _streams_of(loaders: Any) -> Streams:
    if isinstance(loaders, Mapping):
        return {key: _streams_of(loader) for key, loader in loaders.items()}
    if isinstance(loaders, (list, tuple)):
        return tuple(_streams_of(loader) for loader in loaders)
    iterables = getattr(loaders, "iterables", None)  # a CombinedLoader within
    return _streams_of(iterables) if iterables is not None else find_indexed(getattr(loaders, "dataset", None))


def indexed_datasets(streams: Streams) -> list[IndexedDataset]:
    """Return the `IndexedDataset`s of all streams."""
    if isinstance(streams, list):
        return streams
    parts = streams.values() if isinstance(streams, Mapping) else streams
    return [indexed for part in parts for indexed in indexed_datasets(part)]


def pool_size(streams: Streams) -> int | None:
    """Return the size of the pool that the streams' positions count in; None where it cannot be known."""
    whole = {len(indexed) for indexed in indexed_datasets(streams) if indexed.index is None}
    return whole.pop() if len(whole) == 1 else None


def sample_names(streams: Streams) -> dict[int, str]:
    """Return pool index → name, of the samples that have one."""
    return {index: name for indexed in indexed_datasets(streams) for index, name in named_samples(indexed)}


class IndexTaker:
    """Stand before a precision plugin's `convert_input`, and keep the indices of the last training batch.

    Attributes:
        indices: stream → (B,) int64 on the CPU; "" is the stream of a single loader.
        streams: see `find_streams`.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.indices: dict[str, Tensor] = {}
        self.streams: Streams = []
        self._checked: set[str] = set()
        self._trainer = trainer
        self._plugin = trainer.precision_plugin
        self._convert = trainer.precision_plugin.convert_input

    @classmethod
    def stand_in(cls, trainer: Trainer, streams: Streams) -> IndexTaker | None:
        """Take the indices of the streams from now on; None if no stream has any. Callbacks of one trainer share it."""
        taker = trainer.precision_plugin.__dict__.get("convert_input")
        if not isinstance(taker, cls):
            if not indexed_datasets(streams):
                return None
            taker = cls(trainer)
            trainer.precision_plugin.__dict__["convert_input"] = taker
        taker.streams = streams
        return taker

    def indices_on(self, device: torch.device, batch: Any) -> dict[str, Tensor]:
        """Return the indices of the last training batch, by stream, on `device`.

        A module with `training_step(dataloader_iter)` fetches its batches itself; the index is then still in `batch`.
        """
        if not self.indices:
            self._take(batch, self.streams, "")
            taken, self.indices = self.indices, {}
            return {name: index.to(device, non_blocking=True) for name, index in taken.items()}
        return {name: index.to(device, non_blocking=True) for name, index in self.indices.items()}

    def stand_back(self) -> None:
        """Put the plugin back."""
        if self._plugin.__dict__.get("convert_input") is self:
            del self._plugin.__dict__["convert_input"]

    def __call__(self, batch: Any) -> Any:
        if self._trainer.training:
            self.indices = {}
            batch = self._take(batch, self.streams, "")
        return self._convert(batch)

    def _take(self, batch: Any, streams: Streams, name: str) -> Any:
        if batch is None or not indexed_datasets(streams):
            return batch
        if isinstance(streams, Mapping):
            taken = {key: self._take(part, streams.get(key, []), _join(name, key)) for key, part in batch.items()}
            return type(batch)(taken)
        if isinstance(streams, tuple):
            parts = (self._take(part, streams[i], _join(name, i)) for i, part in enumerate(batch))
            return type(batch)(parts)
        where = f"the batch of stream {name!r}" if name else "the batch"
        self.indices[name], batch = take_index(batch, where)
        if name not in self._checked:
            self._checked.add(name)
            _warn_of_repeats(self.indices[name], where)
        return batch


def _warn_of_repeats(index: Tensor, where: str) -> None:
    """Warn where most positions occur several times, as labels do that a `collate_fn` left in their place."""
    distinct = len(index.unique())
    if len(index) >= 8 and 2 * distinct < len(index):
        warnings.warn(
            f"{where} has {len(index)} samples, but only {distinct} distinct positions: are they something else, such "
            f"as the labels? A collate_fn must leave the position last, or under 'pool_index'",
            stacklevel=2,
        )


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)
