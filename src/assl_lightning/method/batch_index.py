"""Take the index out of each batch before the module, and any of its hooks, sees the batch.

Lightning calls `convert_input` of the trainer's precision plugin on every batch first of all; `IndexTaker` stands there
while a fit, a test or the like runs. Nothing of the module is changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning.method.indexed_dataset import KEY, IndexedDataset, find_indexed, named_samples, take_index

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

    Batches of a validation, test or prediction lose their index too; it is not kept.

    Attributes:
        indices: stream → (B,) int64 on the CPU; "" is the stream of a single loader. Without rows where the stream has
            ended before the others.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.indices: dict[str, Tensor] = {}
        self._loaders: Any = None
        self._streams: Streams = []
        self._checked: set[str] = set()
        self._trainer = trainer
        self._plugin = trainer.precision_plugin
        self._convert = trainer.precision_plugin.convert_input

    @classmethod
    def stand_in(cls, trainer: Trainer) -> IndexTaker:
        """Take the indices out of the trainer's batches from now on. Callbacks of one trainer share it."""
        taker = trainer.precision_plugin.__dict__.get("convert_input")
        if not isinstance(taker, cls):
            taker = cls(trainer)
            trainer.precision_plugin.__dict__["convert_input"] = taker
        return taker

    @property
    def streams(self) -> Streams:
        """The `IndexedDataset`s of the training loaders, which may be made anew while a fit runs."""
        loaders = self._trainer.train_dataloader
        if loaders is not self._loaders:
            self._loaders, self._streams = loaders, _streams_of(loaders)
        return self._streams

    def indices_on(self, device: torch.device, batch: Any) -> dict[str, Tensor]:
        """Return the indices of the last training batch, by stream, on `device`.

        A module with `training_step(dataloader_iter)` fetches its batches itself; the index is then still in `batch`.
        """
        indices = self.indices or _take(batch, self.streams, "")[0]
        return {name: index.to(device, non_blocking=True) for name, index in indices.items()}

    def stand_back(self) -> None:
        """Put the plugin back."""
        if self._plugin.__dict__.get("convert_input") is self:
            del self._plugin.__dict__["convert_input"]

    def __call__(self, batch: Any) -> Any:
        if self._trainer.training:
            self.indices, batch = _take(batch, self.streams, "")
            for name in self.indices.keys() - self._checked:
                self._checked.add(name)
                _warn_of_repeats(self.indices[name], _where(name))
        else:
            batch = self._of_evaluation(batch)
        return self._convert(batch)

    def _of_evaluation(self, batch: Any) -> Any:
        """Return a batch of a validation, test or prediction without its index."""
        loader = getattr(self._trainer._active_loop, "_combined_loader", None)
        if loader is None:
            return batch
        if loader._mode != "sequential":
            return _take(batch, _streams_of(loader.iterables), "")[1]
        with_index = [bool(find_indexed(getattr(part, "dataset", None))) for part in loader.flattened]
        if any(with_index) and (all(with_index) or (isinstance(batch, Mapping) and KEY in batch)):
            return take_index(batch)[1]
        if any(with_index) and not isinstance(batch, Mapping) and "evaluation" not in self._checked:
            self._checked.add("evaluation")
            warnings.warn(
                f"{sum(with_index)} of the {len(with_index)} loaders of this evaluation have an IndexedDataset, and "
                f"the others none: which one a batch is of is not known here, so it keeps its position. Wrap all or "
                f"none",
                stacklevel=2,
            )
        return batch


def _take(batch: Any, streams: Streams, name: str) -> tuple[dict[str, Tensor], Any]:
    """Return the indices of a batch, by stream, and the batch without them."""
    if not indexed_datasets(streams):
        return {}, batch
    if batch is None:  # these loaders have ended before the others
        return {stream: torch.empty(0, dtype=torch.int64) for stream in _stream_names(streams, name)}, None
    if isinstance(streams, list):
        index, rest = take_index(batch, _where(name))
        return {name: index}, rest
    if isinstance(streams, Mapping):
        taken = {key: _take(part, streams.get(key, []), _join(name, key)) for key, part in batch.items()}
        rest = type(batch)({key: part for key, (_, part) in taken.items()})
        parts = list(taken.values())
    else:
        parts = [_take(part, streams[number], _join(name, number)) for number, part in enumerate(batch)]
        rest = type(batch)(part for _, part in parts)
    return {stream: index for indices, _ in parts for stream, index in indices.items()}, rest


def _stream_names(streams: Streams, name: str) -> list[str]:
    """Return the names of the streams that have an index."""
    if isinstance(streams, list):
        return [name] if streams else []
    parts = streams.items() if isinstance(streams, Mapping) else enumerate(streams)
    return [each for key, part in parts for each in _stream_names(part, _join(name, key))]


def _where(name: str) -> str:
    return f"the batch of stream {name!r}" if name else "the batch"


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
