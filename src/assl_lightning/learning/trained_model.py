"""The model that a round's training leaves for its query."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from assl_lightning.learning.inference import evaluate
from assl_lightning.learning.views import View
from assl_lightning.method.features import SampleFeatures
from assl_lightning.method.statistics import SampleStatistics
from assl_lightning.networks.base import FeatureNetwork


@dataclass(frozen=True)
class TrainedModel:
    """A network after a training, with what the training kept of each sample."""

    network: FeatureNetwork  # with the weights that make logits and features, on the device of the pass
    statistics: SampleStatistics | None  # on the CPU; None where the algorithm keeps none
    context: Callable[[], AbstractContextManager[object]]  # entered around forward passes, for mixed precision
    features: SampleFeatures | None = None  # kept during the training, for use instead of a pass over the pool

    def evaluate(self, view: View, index: Tensor, batch_size: int, *, is_shared: bool = False) -> tuple[Tensor, Tensor]:
        """Return logits (M, C) and features (M, d) of the samples at `index` (M,), as `inference.evaluate` does."""
        return evaluate(self.network, view, index, batch_size=batch_size, context=self.context, is_shared=is_shared)
