"""The rows of an observation that tables keep, as the ranks of a training send them."""

from __future__ import annotations

import torch

from assl_lightning.method.contracts import Observation
from assl_lightning.method.gathering import RankGather, Rows

KINDS = {
    "index": torch.int64,
    "uncertainty": torch.float32,
    "inconsistency": torch.float32,
    "further": torch.float32,
    "features": torch.float16,
    "labelled_index": torch.int64,
    "labelled_features": torch.float16,
}
"""Field of an `Observation` → type of its rows."""


def new_gather() -> RankGather:
    """Make a gather of such rows."""
    return RankGather(KINDS, optional=("labelled_index", "labelled_features"))


def rows_of(observation: Observation, keep_features: bool) -> Rows:
    """Return what the tables keep of an observation, by the names of `KINDS`."""
    found = {name: getattr(observation, name) for name in KINDS}
    if not keep_features or observation.features is None:
        found |= dict.fromkeys(("features", "labelled_index", "labelled_features"))
    elif observation.labelled_index is None or observation.labelled_features is None:
        found |= dict.fromkeys(("labelled_index", "labelled_features"))
    return {
        name: rows.detach().to(KINDS[name]) if rows.is_floating_point() else rows
        for name, rows in found.items()
        if rows is not None
    }
