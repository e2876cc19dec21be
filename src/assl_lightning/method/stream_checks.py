"""Checks of the loaders that a fit trains on: each position must mean the same sample of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer

from assl_lightning.method.indexed_dataset import IndexedDataset, find_indexed

_WRAP = (
    "wrap the whole pool, and then cut it, Subset(IndexedDataset(pool), …); or say which samples of the pool a part "
    "has, IndexedDataset(part, index=…)"
)


def check_streams(trainer: Trainer, num_samples: int | None) -> None:
    """Raise a ValueError where positions of the trainer's loaders cannot be those of one pool.

    Args:
        trainer: of the fit, whose training loaders are there.
        num_samples: N, the size of the pool; None where it is not known.
    """
    _check(trainer.train_dataloader, num_samples, "")


def _check(loaders: Any, num_samples: int | None, name: str) -> None:
    if isinstance(loaders, Mapping):
        for key, loader in loaders.items():
            _check(loader, num_samples, f"{name}.{key}" if name else str(key))
    elif isinstance(loaders, (list, tuple)):
        for number, loader in enumerate(loaders):
            _check(loader, num_samples, f"{name}.{number}" if name else str(number))
    elif getattr(loaders, "iterables", None) is not None:  # a CombinedLoader within
        _check(loaders.iterables, num_samples, name)
    else:
        _check_dataset(getattr(loaders, "dataset", None), num_samples, f"the loader {name!r}" if name else "the loader")


def _check_dataset(dataset: Any, num_samples: int | None, where: str) -> None:
    _check_parts(dataset, where)
    whole: dict[int, IndexedDataset] = {id(each): each for each in find_indexed(dataset) if each.index is None}
    if len(whole) > 1:
        raise ValueError(
            f"{where} has samples of {len(whole)} IndexedDatasets that each count from 0, so that a position means "
            f"several samples: {_WRAP}, such as IndexedDataset(ConcatDataset([…]))"
        )
    for indexed in whole.values():
        if num_samples not in (None, len(indexed)):
            raise ValueError(
                f"the IndexedDataset of {where} has {len(indexed)} samples, which count from 0, and the pool has "
                f"{num_samples} (num_samples): {_WRAP}; a data set that is no part of the pool needs no IndexedDataset"
            )


def _check_parts(dataset: Any, where: str) -> None:
    """Raise if a data set was put together from parts of which some have positions, and others none."""
    parts = getattr(dataset, "datasets", None)
    if isinstance(dataset, IndexedDataset) or not isinstance(parts, (list, tuple)):
        return
    with_index = [bool(find_indexed(part)) for part in parts]
    if any(with_index) and not all(with_index):
        raise ValueError(
            f"{where} has a data set of {len(parts)} parts, and only {sum(with_index)} of them an IndexedDataset: "
            f"wrap it as a whole, IndexedDataset(ConcatDataset([…]))"
        )
