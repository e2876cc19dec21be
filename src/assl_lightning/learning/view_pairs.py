"""`ViewPairDataModule`: batches of two strong views of the same images, without a label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.loading import Loaded, LoadingDataModule, decoded
from assl_lightning.learning.samplers import PermutedStream, rows_of_rank


class ViewPairs(TypedDict):
    """Input of a training step on pairs of views. Images are normalised float32 on the training device."""

    index: Tensor  # (B,) int64 pool indices, distinct
    first: Tensor  # (B, channels, height, width), a strong view of each
    second: Tensor  # (B, channels, height, width), another one


class PairIndices(NamedTuple):
    """The share of one rank in one global batch."""

    step: int  # from 0
    sample: Tensor  # (B / ranks,) int64 pool indices
    row: Tensor  # (B / ranks,) int64 positions in the global batch


class PairSampler(DistributedSampler[PairIndices]):
    """Yield this rank's `PairIndices`, one item a step: passes over `index` in batches of distinct samples.

    A pass has ⌊M / B⌋ batches; the samples left over are drawn anew in the next one.

    Args:
        index: (M,) int64 pool indices.
        seed: of all permutations.
        steps: number of items.
        batch_size: B over all ranks; at most the largest multiple of the ranks that M has.

    Raises:
        ValueError: fewer than two samples, or than ranks: nothing could be compared.
    """

    def __init__(
        self, index: Tensor, seed: int, steps: int, batch_size: int, *, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(range(steps), num_replicas=num_replicas, rank=rank, shuffle=False)  # type: ignore[arg-type]
        if len(index) < max(2, num_replicas):
            raise ValueError(
                f"views of at least {max(2, num_replicas)} images must be compared with one another, but the pool has "
                f"{len(index)} to train on; add images, or choose warm_up=none"
            )
        self.steps = steps
        self.batch_size = min(batch_size, len(index)) // num_replicas * num_replicas
        self._first = 0
        self._stream = PermutedStream(index, seed, "warm_up_permutation", 0)

    def __len__(self) -> int:
        return self.steps

    def start_at(self, step: int) -> None:
        """Begin the next iteration with batch `step`."""
        self._first = step

    def __iter__(self) -> Iterator[PairIndices]:
        # A generator, which begins with its first item: a loader with workers asks for an iterator twice.
        yield from map(self.pair_indices, range(self._first, self.steps))

    def pair_indices(self, step: int) -> PairIndices:
        """Return this rank's share of batch `step`."""
        row = rows_of_rank(self.batch_size, self.num_replicas, self.rank)
        return PairIndices(step, self._stream.distinct(step, self.batch_size)[row], row)


class ViewPairDataModule(LoadingDataModule):
    """Give a training `ViewPairs` of some samples of a pool, one batch a step.

    Images are gathered or decoded, augmented and normalised as `PoolDataModule` does it, and each is decoded once for
    both views. The views are a function of (seed, step, position in the batch).

    Args:
        data: the pool's images, their strong augmentation and normalisation, and the seed.
        index: (M,) int64, the samples to train on.
        steps: number of batches.
        batch_size: B images a batch over all processes, or fewer where M is less.
    """

    def __init__(self, data: PoolDataModule, index: Tensor, *, steps: int, batch_size: int) -> None:
        super().__init__(data.num_workers)
        self.data = data
        self.index = index
        self.steps = steps
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Make the training loader; an item has a step's indices, and pixels of images in files."""
        ranks, rank = self._ranks()
        sampler = PairSampler(self.index, self.data.seed, self.steps, self.batch_size, num_replicas=ranks, rank=rank)
        sampler.start_at(self._steps_before())
        return self._loader(_Pairs(self.data.pool_images), sampler)

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> ViewPairs:
        """Turn indices into two views of each image, on the device of the indices."""
        images = decoded(batch) if "pixels" in batch else self.data.images(batch["sample"])
        first, second = (self._strong_view(images, number, batch["step"], batch["row"]) for number in (0, 1))
        return {"index": batch["sample"], "first": first, "second": second}

    def _strong_view(self, images: Tensor, number: int, step: int, row: Tensor) -> Tensor:
        draws = Draws(derive_key(self.data.seed, "warm_up_view", number, step), row)
        return self.data.normalise(self.data.strong(images, draws))


class _Pairs(Loaded[dict[str, Any]]):
    """A step's indices, with the pixels where images are in files."""

    def __getitem__(self, item: PairIndices) -> dict[str, Any]:
        indices = item._asdict()
        return indices if self.files is None else indices | self.decode(item.sample)
