"""The samples to label first, chosen before anything has learned from a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from assl_lightning.acquisition.kmeans_plus_plus import KMeansPlusPlus
from assl_lightning.acquisition.typiclust import TypiClust
from assl_lightning.base.seeding import make_generator
from assl_lightning.data.pixel_components import pixel_components
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.loop.training import RoundTraining
from assl_lightning.method.candidates import Acquisition, Candidates, LabelledSamples
from assl_lightning.method.herding import Herding

FIRST_STRATEGIES: Mapping[str, Callable[[], Acquisition]] = {
    "kmeans_plus_plus": partial(KMeansPlusPlus, first="uniform"),
    "herding": partial(Herding, weight="none"),
    "typiclust": TypiClust,
}
"""A value of `initial_acquisition` → a strategy that needs features alone; "random" has none."""

_MOST_LOOKED_AT = 20_000  # images


def choose_first(datamodule: PoolDataModule, settings: RoundSettings, training: RoundTraining) -> tuple[Tensor, Tensor]:
    """Draw the hold-out, warm the network up on the other samples, and choose those to label first.

    Returns:
        The pool indices of the hold-out, (H,) int64, and of the samples to label first, (L,) int64.
    """
    pool, seed = datamodule.pool, settings.seed
    candidates = pool.unlabelled  # all samples that were neither labelled nor excluded beforehand
    order = torch.randperm(len(candidates), generator=make_generator(seed, "initial_labels"))
    held_out = candidates[order[: settings.hold_out]]
    others = candidates[order[settings.hold_out :]]
    if training.warm_up is not None:
        training.warm_up.run(torch.cat([pool.labelled, others]).sort().values)
    if settings.initial_acquisition == "random" or not settings.initial_labels:
        return held_out, others[: settings.initial_labels]
    index = _drawn(others.sort().values, max(_MOST_LOOKED_AT, 2 * settings.initial_labels), seed)
    features = _features(datamodule, settings, training, index)
    strategy = FIRST_STRATEGIES[settings.initial_acquisition]()
    return held_out, query_first(strategy, index, features, settings.initial_labels, seed)


def _drawn(index: Tensor, most: int, seed: int) -> Tensor:
    """Return `index` (M,), or, if it is longer, as many of it as `most`, which stand for all; ascending."""
    if len(index) <= most:
        return index
    order = torch.randperm(len(index), generator=make_generator(seed, "initial_sample"))
    return index[order[:most]].sort().values


def _features(datamodule: PoolDataModule, settings: RoundSettings, training: RoundTraining, index: Tensor) -> Tensor:
    """Return features (M, d) of the samples at `index` (M,), which no label has gone into."""
    wanted = settings.initial_features
    if wanted == "pixels" or (wanted == "auto" and not training.warm_up):
        return pixel_components(datamodule.pool_images, index)
    _, features = training.untrained().evaluate(datamodule.plain_view, index, datamodule.test_batch_size)
    return features


def query_first(strategy: Acquisition, index: Tensor, features: Tensor, budget: int, seed: int) -> Tensor:
    """Return (budget,) int64 of the samples at `index` (M,) int64, ascending, by their `features` (M, d)."""
    none = index[:0]
    labelled = LabelledSamples(none, none, None, features[:0])
    candidates = Candidates(index, features=features, labelled=labelled)
    return strategy.acquire(candidates, budget, make_generator(seed, "initial_acquisition")).index
