"""The samples of each batch: a pure function of (seed, round, step), the same for any number of ranks.

The unlabelled stream goes through U in passes of ⌊|U| / Bu⌋ batches of distinct samples; the remainder is drawn anew in
the next pass. Where |U| < Bu, and for the labelled stream ("tiled"), permutations follow one another without a
gap. "passes" is how active learning without unlabelled images trains: each pass cuts one permutation into batches, the
last one shorter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from assl_lightning.base.seeding import make_generator
from assl_lightning.learning.settings import LabelledStream


class StepIndices(NamedTuple):
    """The share of one rank in one global batch."""

    step: int  # within the round, from 0
    ends_pass: bool  # this batch completes a pass over the labelled samples
    labelled: Tensor  # (B / ranks,) int64 pool indices
    unlabelled: Tensor  # (Bu / ranks,) int64 pool indices
    labelled_row: Tensor  # (B / ranks,) int64 positions in the global batch
    unlabelled_row: Tensor  # (Bu / ranks,) int64 positions in the global batch


class PermutedStream:
    """An endless stream over `index` (n,) int64: one permutation after another, each a function of its number."""

    def __init__(self, index: Tensor, seed: int, purpose: str, round_number: int) -> None:
        self.index = index
        self._key = (seed, purpose, round_number)
        self._cached: tuple[int, Tensor] = (-1, index)

    def permutation(self, number: int) -> Tensor:
        """(n,) int64: `index` in the order of pass `number`."""
        if self._cached[0] != number:
            seed, purpose, round_number = self._key
            order = torch.randperm(len(self.index), generator=make_generator(seed, purpose, round_number, number))
            self._cached = (number, self.index[order])
        return self._cached[1]

    def tiled(self, step: int, size: int) -> Tensor:
        """(size,): batch `step` of permutations put end to end."""
        start, stop, n = step * size, (step + 1) * size, len(self.index)
        numbers = range(start // n, (stop - 1) // n + 1)
        pieces = [self.permutation(k)[max(start - k * n, 0) : stop - k * n] for k in numbers]
        return torch.cat(pieces)

    def distinct(self, step: int, size: int) -> Tensor:
        """(size,): batch `step` of passes of ⌊n / size⌋ batches, no sample twice within a pass; needs n ≥ size."""
        number, position = divmod(step, len(self.index) // size)
        return self.permutation(number)[position * size : (position + 1) * size]


@dataclass(frozen=True)
class BatchPlan:
    """Sizes of a round's batches, over all ranks, and the key of their draws.

    `batch_size` B labelled and `mu`·B unlabelled samples a step, for `num_steps` steps.
    """

    seed: int
    round_number: int
    num_steps: int
    batch_size: int
    mu: int
    labelled_stream: LabelledStream = "tiled"


def batches_per_pass(num_labelled: int, batch_size: int) -> int:
    """Return the number of batches in a pass over the labelled samples under "passes".

    A last batch of a single sample is left out, because BatchNorm cannot train on one sample.
    """
    full, rest = divmod(num_labelled, batch_size)
    return full + 1 if rest > 1 or full == 0 else full


class StepSampler(DistributedSampler[StepIndices]):
    """Yield this rank's `StepIndices`, one item a step, `steps_per_epoch` items an epoch.

    A subclass of `DistributedSampler`, so that Lightning leaves it alone under every strategy. One process with a
    global batch of 8 sees the same batches as two ranks with 4 each.

    Args:
        labelled: (L,) int64 pool indices, L ≥ 1.
        unlabelled: (M,) int64 pool indices; M = 0 gives batches without unlabelled samples.
        plan: sizes, and the key of all draws.
        steps_per_epoch: number of steps in an epoch; the next epoch continues with the next batch.
    """

    def __init__(
        self,
        labelled: Tensor,
        unlabelled: Tensor,
        plan: BatchPlan,
        steps_per_epoch: int,
        *,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(range(plan.num_steps), num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        if not len(labelled):
            raise ValueError("there is no labelled sample to train on; label at least one before the first round")
        for name, size in (("batch_size", plan.batch_size), ("batch_size · mu", plan.batch_size * plan.mu)):
            if size % num_replicas:
                raise ValueError(
                    f"{name} = {size} is the global batch and must be divisible by the {num_replicas} processes"
                )
        if plan.labelled_stream == "passes" and num_replicas > 1:
            raise ValueError(
                f"the labelled stream 'passes' ends in a shorter batch, which {num_replicas} processes cannot share "
                f"evenly; use one device, or the stream 'tiled'"
            )
        self.plan = plan
        self.steps_per_epoch = steps_per_epoch
        self.unlabelled_size = plan.batch_size * plan.mu if len(unlabelled) else 0
        self._skip = 0
        self._labelled = PermutedStream(labelled, plan.seed, "labelled_permutation", plan.round_number)
        self._unlabelled = PermutedStream(unlabelled, plan.seed, "unlabelled_permutation", plan.round_number)

    def __len__(self) -> int:
        """Return the number of steps in this epoch."""
        return min(self.steps_per_epoch, self.plan.num_steps - self.epoch * self.steps_per_epoch)

    def start_at(self, step: int) -> None:
        """Begin the next iteration with batch `step` of the round; later iterations begin at their epochs' starts."""
        epoch, self._skip = divmod(step, self.steps_per_epoch)
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[StepIndices]:
        # A generator, which begins with its first item: a loader with workers asks for an iterator twice.
        start = self.epoch * self.steps_per_epoch
        steps = range(start + self._skip, start + len(self))
        self._skip = 0
        yield from map(self.step_indices, steps)

    def step_indices(self, step: int) -> StepIndices:
        """Return this rank's share of batch `step` of the round."""
        labelled, ends_pass = self._labelled_batch(step)
        unlabelled = self._unlabelled_batch(step)
        labelled_row, unlabelled_row = (
            rows_of_rank(len(batch), self.num_replicas, self.rank) for batch in (labelled, unlabelled)
        )
        return StepIndices(
            step, ends_pass, labelled[labelled_row], unlabelled[unlabelled_row], labelled_row, unlabelled_row
        )

    def _labelled_batch(self, step: int) -> tuple[Tensor, bool]:
        size, count = self.plan.batch_size, len(self._labelled.index)
        if self.plan.labelled_stream == "tiled":
            return self._labelled.tiled(step, size), (step + 1) * size // count > step * size // count
        per_pass = batches_per_pass(count, size)
        number, position = divmod(step, per_pass)
        batch = self._labelled.permutation(number)[position * size : (position + 1) * size]
        return batch, position == per_pass - 1

    def _unlabelled_batch(self, step: int) -> Tensor:
        size = self.unlabelled_size
        if size == 0:
            return self._unlabelled.index[:0]
        if len(self._unlabelled.index) < size:
            return self._unlabelled.tiled(step, size)
        return self._unlabelled.distinct(step, size)


def rows_of_rank(size: int, num_replicas: int, rank: int) -> Tensor:
    """Return a rank's contiguous rows, (size / ranks,) int64, of a global batch of `size` rows."""
    return torch.arange(size * rank // num_replicas, size * (rank + 1) // num_replicas)


class ChunkSampler(DistributedSampler[Tensor]):
    """Yield (size,) int64 positions 0 … count − 1 in order, for evaluation.

    −1 pads the end, so that all ranks have equally many batches of one size and no sample counts twice.
    """

    def __init__(self, count: int, size: int, *, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(range(count), num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self.count, self.size = count, size
        self.num_batches = -(-count // (size * num_replicas))

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Tensor]:
        for batch in range(self.num_batches):
            start = (batch * self.num_replicas + self.rank) * self.size
            position = torch.arange(start, start + self.size)
            yield torch.where(position < self.count, position, -1)
