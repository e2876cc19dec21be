"""The samples to label first, chosen before anything has learned from a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from assl_lightning.acquisition.kmeans_plus_plus import KMeansPlusPlus
from assl_lightning.acquisition.typiclust import TypiClust
from assl_lightning.base.seeding import make_generator
from assl_lightning.method.candidates import Acquisition, Candidates, LabelledSamples
from assl_lightning.method.herding import Herding

FIRST_STRATEGIES: Mapping[str, Callable[[], Acquisition]] = {
    "kmeans_plus_plus": partial(KMeansPlusPlus, first="uniform"),
    "herding": partial(Herding, weight="none"),
    "typiclust": TypiClust,
}
"""A value of `initial_acquisition` → a strategy that needs features alone; "random" has none."""


def query_first(strategy: Acquisition, index: Tensor, features: Tensor, budget: int, seed: int) -> Tensor:
    """Return (budget,) int64 of the samples at `index` (M,) int64, ascending, by their `features` (M, d)."""
    none = index[:0]
    labelled = LabelledSamples(none, none, None, features[:0])
    candidates = Candidates(index, features=features, labelled=labelled)
    return strategy.acquire(candidates, budget, make_generator(seed, "initial_acquisition")).index
