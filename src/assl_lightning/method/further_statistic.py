"""The base of further statistics of each sample, beside uncertainty and inconsistency."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

from assl_lightning.method.settings import FurtherName
from assl_lightning.method.visits import Visits


class FurtherStatistic(ABC):
    """Numbers of every sample of a pool, by pool index, which each visit updates.

    Subclasses fill `columns` with tensors (N + 1, …), whose last row takes invalid observations, as in
    `SampleStatistics`. A column whose width is known only from the first visit is added by the first `update`.

    Args:
        num_samples: N, the size of the pool.
        alpha: weight of a new observation in a moving average, in (0, 1].
    """

    name: ClassVar[FurtherName]
    views: ClassVar[Literal[1, 2]]
    """Number of views of a sample that `observe` looks at."""
    is_count: ClassVar[bool] = False
    """True if many samples have the same score, so that ties are to be drawn."""
    observes: ClassVar[Literal["a number", "a number for each class"]]
    """What `observe` returns for each sample: w is 1, or C."""

    def __init__(self, num_samples: int, alpha: float) -> None:
        self.num_samples, self.alpha = num_samples, alpha
        self.columns: dict[str, Tensor] = {}

    @abstractmethod
    def observe(self, weak: Tensor, strong: Tensor) -> Tensor:
        """Return the observation (B, w) float32 of logits (B, C); `strong` is `weak` if there is one view."""

    @abstractmethod
    def update(self, visits: Visits, observed: Tensor, before: Tensor) -> None:
        """Count the visits of a batch, in order; without waiting for the device.

        Args:
            visits: of the rows of the table, B of them.
            observed: (B, w) finite, in the order of the visits.
            before: (B,) int32, how often each row was visited in earlier batches.
        """

    @abstractmethod
    def rows(self, index: Tensor | slice) -> Tensor:
        """Return the statistic of the samples at `index`, (M,) or (M, C); any number where training never visited."""

    @staticmethod
    @abstractmethod
    def score(rows: Tensor) -> Tensor:
        """Return a number for each of the `rows`, (M,); larger means label sooner."""
