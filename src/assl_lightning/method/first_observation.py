"""Checks of the first observation of a fit, which alone wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from assl_lightning.method.contracts import Observation


def check_first(observation: Observation, num_samples: int, keep_features: bool) -> None:
    """Raise for an observation of a wrong kind. Of the first batch alone, since the check waits for the device."""
    index = observation.index
    _check_index("index", index, num_samples)
    for name in ("uncertainty", "inconsistency"):
        value = getattr(observation, name)
        if value is not None and value.shape != index.shape:
            raise ValueError(
                f"'{name}' must have one number for each of the {len(index)} indices; got shape {tuple(value.shape)}: "
                f"reduce a dense task to one number per sample in `observe`"
            )
    if not keep_features:
        return
    if observation.features is None:
        raise KeyError(
            "keep_features=True needs 'features_weak' (B, d) in what training_step returns, or `features` in what "
            "`observe` returns; return the input of the last layer for the weak views, detached, or name that layer in "
            "the maker (head=…)"
        )
    if observation.features.ndim != 2 or len(observation.features) != len(index):
        raise ValueError(
            f"features must have one row for each of the {len(index)} indices, shape ({len(index)}, d); got shape "
            f"{tuple(observation.features.shape)}"
        )
    _check_labelled(observation.labelled_index, observation.labelled_features, observation.features, num_samples)


def _check_labelled(index: Tensor | None, features: Tensor | None, of_weak: Tensor, num_samples: int) -> None:
    """Raise unless there are labelled indices (L,) and features (L, d) as wide as `of_weak` (B, d), or neither."""
    if index is None and features is None:
        return
    if index is None or features is None:
        missing, there = "'labelled_index' (L,)", "'features_labelled' (L, d)"
        if index is not None:
            missing, there = there, missing
        raise KeyError(
            f"keep_features=True found {there} without {missing}; return both, or neither, from training_step (in what "
            f"`observe` returns they are `labelled_index` and `labelled_features`)"
        )
    _check_index("labelled_index", index, num_samples)
    expected = (len(index), *of_weak.shape[1:])
    if features.shape != expected:
        raise ValueError(
            f"'features_labelled' must have one row for each of the {len(index)} labelled indices, as wide as those of "
            f"the weak views, shape {expected}; got shape {tuple(features.shape)}"
        )


def _check_index(name: str, index: Tensor, num_samples: int) -> None:
    """Raise unless `index` is (B,) int64 of pool indices, or −1."""
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1:
        kind = f"{index.dtype} of shape {tuple(index.shape)}" if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(
            f"'{name}' must be an int64 tensor of shape (B,), the samples' positions in the pool; got {kind}"
        )
    outside = index[(index < -1) | (index >= num_samples)]
    if len(outside):
        raise IndexError(
            f"'{name}' holds {int(outside[0])}, outside the pool's 0 … {num_samples - 1}; give pool indices, not "
            f"positions within a subset, or a larger num_samples"
        )
