"""`PoolDataModule`: batches of labelled and unlabelled images from a `Pool`, augmented on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from assl_lightning.augment.fused import Rows, StepViews, fused_views
from assl_lightning.base.arguments import whole_number
from assl_lightning.base.rules import checked
from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.image_stream import StoredImages, StreamedImages
from assl_lightning.data.pool import Pool
from assl_lightning.learning.algorithm import TrainedNetwork
from assl_lightning.learning.loading import Loaded, LoadingDataModule, decoded
from assl_lightning.learning.samplers import (
    BatchPlan,
    ChunkSampler,
    StepIndices,
    StepSampler,
    batches_per_pass,
)
from assl_lightning.learning.settings import BatchSize, LabelledStream, LabelledView, Mu, Passes, Steps
from assl_lightning.learning.views import ReadView, View, changed, images_of_parts
from assl_lightning.method.contracts import Batch, EvaluationBatch

Augment = Callable[[Tensor, Draws], Tensor]


class PoolDataModule(LoadingDataModule):
    """Give training one `Batch` for each step, and evaluation the test images.

    The pool's images are one uint8 tensor that moves to the training device once; the loader yields only indices, and
    gathering, augmentation and normalisation happen on the device in `on_after_batch_transfer`. Images in files are
    decoded by the loader's workers; the rest happens on the device in the same way, and the batches are the same.

    Args:
        pool: the samples and their labels.
        pool_images: (N, channels, height, width) uint8, in the pool's order; a tensor, or images in files.
        test_images: (M, channels, height, width) uint8, likewise; M = 0: the test is made on what the pool holds out.
        test_labels: (M,) int64.
        test_ids: M stable names, by which a test set stays the same where a pool grows; () where they have none.
        normalise: uint8 images → float32.
        weak: `weak(images, draws) → images`, uint8 → uint8, a draw for each row.
        strong: likewise, for the strong view.
        batch_size: B, labelled images a step over all processes.
        mu: Bu = mu·B unlabelled images a step over all processes; 0 for none.
        labelled_view: "weak" augments labelled images weakly, "plain" not at all.
        labelled_stream: "tiled" keeps every batch full, "passes" ends each pass with a shorter one; see `samplers`.
        max_passes: under "passes", a round has at most this many passes over the labelled images.
        include_labelled: the unlabelled stream draws from labelled samples too (their labels unused), as in FixMatch's
            own code; the paper's U is the pool without them.
        test_batch_size: test images a batch in each process.
        num_workers: processes that decode images in files, for each training process; 0: the training process does.
        seed: of all draws, in every round.
        steps_per_round: steps of a fit.
        steps_per_epoch: a test follows every so many steps; None: once, at the end.

    >>> from assl_lightning.augment import Normalise, StrongAugment, WeakAugment
    >>> pool = Pool(num_samples=100, num_classes=3)
    >>> pool.label(torch.tensor([4, 71]), torch.tensor([0, 2]), round_number=0)
    >>> images = torch.zeros(100, 1, 16, 16, dtype=torch.uint8)
    >>> datamodule = PoolDataModule(
    ...     pool,
    ...     pool_images=images,
    ...     test_images=images[:5],
    ...     test_labels=torch.zeros(5, dtype=torch.int64),
    ...     normalise=Normalise(mean=(0.5,), std=(0.5,)),
    ...     weak=WeakAugment(),
    ...     strong=StrongAugment(),
    ...     batch_size=8,
    ... )
    >>> item = next(iter(datamodule.train_dataloader()))
    >>> batch = datamodule.on_after_batch_transfer(item, 0)
    >>> batch["labelled_image"].shape, batch["weak"].shape
    (torch.Size([8, 1, 16, 16]), torch.Size([56, 1, 16, 16]))
    """

    def __init__(
        self,
        pool: Pool,
        *,
        pool_images: StoredImages,
        test_images: StoredImages,
        test_labels: Tensor,
        test_ids: Sequence[str] = (),
        normalise: Callable[[Tensor], Tensor],
        weak: Augment,
        strong: Augment,
        batch_size: int = 64,
        mu: int = 7,
        labelled_view: LabelledView = "weak",
        labelled_stream: LabelledStream = "tiled",
        max_passes: int | None = None,
        include_labelled: bool = False,
        test_batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
        steps_per_round: int = 1024,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__(num_workers)
        if len(pool_images) != pool.num_samples:
            raise ValueError(f"the pool has {pool.num_samples} samples, but there are {len(pool_images)} pool images")
        self.pool = pool
        self.pool_images = pool_images
        self.test_images = test_images
        self.test_labels = test_labels
        self.test_ids = tuple(test_ids)
        self.normalise = normalise
        self.weak = weak
        self.strong = strong
        self.batch_size: int = checked("batch_size", batch_size, BatchSize)
        self.mu: int = checked("mu", mu, Mu)
        self.labelled_view: LabelledView = checked("labelled_view", labelled_view, LabelledView)
        self.labelled_stream: LabelledStream = checked("labelled_stream", labelled_stream, LabelledStream)
        self.max_passes: int | None = checked("max_passes", max_passes, Passes | None)
        self.include_labelled = include_labelled
        self.test_batch_size = whole_number("test_batch_size", test_batch_size, least=1)
        self.start_round(0, seed=seed, steps_per_round=steps_per_round, steps_per_epoch=steps_per_epoch)

    @property
    def num_samples(self) -> int:
        """N, the number of samples in the pool."""
        return self.pool.num_samples

    def start_round(
        self, round_number: int, *, seed: int, steps_per_round: int, steps_per_epoch: int | None = None
    ) -> None:
        """Make the next batches those of `round_number`, over the pool as it is when the next fit begins."""
        self.round_number = whole_number("round_number", round_number)
        self.seed = whole_number("seed", seed)
        self.steps_per_round: int = checked("steps_per_round", steps_per_round, Steps)
        self.steps_per_epoch: int = checked("steps_per_epoch", steps_per_epoch, Steps | None) or self.steps_per_round

    @property
    def num_steps(self) -> int:
        """Number of steps in this round: `steps_per_round`, or fewer by `max_passes`."""
        if self.labelled_stream == "passes" and self.max_passes is not None:
            per_pass = batches_per_pass(len(self.pool.labelled), self.batch_size)
            return min(self.steps_per_round, self.max_passes * per_pass)
        return self.steps_per_round

    @property
    def num_epochs(self) -> int:
        """Number of epochs in this round; the last one may be shorter."""
        return -(-self.num_steps // self.steps_per_epoch)

    @property
    def streamed(self) -> Tensor:
        """(M,) int64 indices that the unlabelled stream draws from."""
        if not self.include_labelled:
            return self.pool.unlabelled
        return torch.cat([self.pool.labelled, self.pool.unlabelled]).sort().values

    @property
    def draws_distinct(self) -> bool:
        """True if no unlabelled batch holds a sample twice."""
        return len(self.streamed) >= self.batch_size * self.mu

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Make the training loader; an item has a step's indices, known labels, and pixels of images in files."""
        ranks, rank = self._ranks()
        plan = BatchPlan(self.seed, self.round_number, self.num_steps, self.batch_size, self.mu, self.labelled_stream)
        sampler = StepSampler(
            self.pool.labelled, self.streamed, plan, self.steps_per_epoch, num_replicas=ranks, rank=rank
        )
        sampler.start_at(self._steps_before())
        return self._loader(_Steps(self.pool.labels.long(), self.pool_images), sampler)

    def val_dataloader(self) -> DataLoader[Tensor | dict[str, Any]]:
        """Make the loader of the test images, or of the held-out samples; nothing is chosen by their accuracy."""
        ranks, rank = self._ranks()
        sampler = ChunkSampler(self.num_test_images, self.test_batch_size, num_replicas=ranks, rank=rank)
        if len(self.test_images) or not isinstance(self.pool_images, StreamedImages):
            return self._loader(_Positions(self.test_images), sampler)
        return self._loader(_Positions(self.pool_images.take(self.pool.held_out)), sampler)

    def test_dataloader(self) -> DataLoader[Tensor | dict[str, Any]]:
        """Make the same loader as `val_dataloader`."""
        return self.val_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch | EvaluationBatch:
        """Turn indices into augmented, normalised images on the device of the indices."""
        if isinstance(batch, Tensor):
            return self._test_batch(batch, self._images_to_test(batch))
        if "position" in batch:
            return self._test_batch(batch["position"], decoded(batch))
        return self._training_batch(batch)

    @torch.no_grad()
    def _training_batch(self, item: dict[str, Any]) -> Batch:
        views = self._views(item)
        return {
            "step": item["step"],
            "ends_pass": item["ends_pass"],
            "labelled_index": item["labelled"],
            "labelled_image": views.labelled,
            "label": item["label"],
            "index": item["unlabelled"],
            "weak": views.weak,
            "strong": views.strong,
        }

    def _views(self, item: dict[str, Any]) -> StepViews:
        """Make the views of a step: in one launch where a kernel can, else by the plan of the device."""
        augments_labelled = self.labelled_view == "weak"
        of_labelled = self._draws("labelled_view", item["step"], item["labelled_row"])
        weak = self._draws("weak_view", item["step"], item["unlabelled_row"])
        strong = self._draws("strong_view", item["step"], item["unlabelled_row"])
        if item["labelled"].device.type == "cuda" and not isinstance(self.pool_images, StreamedImages):
            pool = self._on_device("pool_images", item["labelled"])
            fused = fused_views(
                pool, self.weak, self.strong, self.normalise, augments_labelled, channels_last=self._is_channels_last
            )
            if fused is not None:
                return fused(pool, Rows(item["labelled"], of_labelled), Rows(item["unlabelled"], weak), strong)
        labelled, unlabelled = self._images_of_step(item)
        if augments_labelled:
            labelled = self.weak(labelled, of_labelled)
        return StepViews(
            labelled=self.normalise(labelled),
            weak=self.normalise(self.weak(unlabelled, weak)),
            strong=self.normalise(self.strong(unlabelled, strong)),
        )

    def _draws(self, purpose: str, step: int, row: Tensor) -> Draws:
        return Draws(derive_key(self.seed, purpose, self.round_number, step), row)

    def _images_of_step(self, item: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the labelled and the unlabelled images, uint8: gathered on the device, or decoded by the loader."""
        labelled, unlabelled = item["labelled"], item["unlabelled"]
        if "pixels" not in item:
            return self.images(labelled), self.images(unlabelled)
        of_labelled, of_unlabelled = decoded(item).split([len(labelled), len(unlabelled)])
        return of_labelled, of_unlabelled

    @property
    def _is_channels_last(self) -> bool:
        """True if the network that is trained takes images so, and would copy others."""
        module = None if self.trainer is None else self.trainer.lightning_module
        return isinstance(module, TrainedNetwork) and module.network.memory_format == "channels_last"

    @torch.no_grad()
    def _test_batch(self, position: Tensor, images: Tensor) -> EvaluationBatch:
        label = torch.where(position >= 0, self._labels_to_test(position), -1)
        return {"image": self.normalise(images), "label": label, "position": position}

    def _images_to_test(self, position: Tensor) -> Tensor:
        """Return the test images at these positions, from memory."""
        found = position.clamp(min=0)
        if len(self.test_images):
            return self._on_device("test_images", position)[found]
        return self.images(self.pool.held_out.to(position.device)[found])

    def _labels_to_test(self, position: Tensor) -> Tensor:
        found = position.clamp(min=0)
        if len(self.test_images):
            return self._on_device("test_labels", position)[found]
        return self.pool.labels[self.pool.held_out].long().to(position.device)[found]

    @property
    def num_test_images(self) -> int:
        """Number of test images: M, or the pool's held-out samples where M = 0."""
        return len(self.test_images) or len(self.pool.held_out)

    def tested_images(self, position: Tensor) -> Tensor:
        """Return the images at `position` (B,) of a test, (B, channels, height, width) uint8."""
        if not len(self.test_images):
            return self.images(self.pool.held_out[position])
        images = self.test_images
        return images[position.to(images.device) if isinstance(images, Tensor) else position]

    def tested_names(self, position: Tensor) -> tuple[str, ...]:
        """Return the names of these images; the position for those of a test set without names."""
        if not len(self.test_images):
            return tuple(self.pool.sample_ids[index] for index in self.pool.held_out[position].tolist())
        return tuple(self.test_ids[number] if self.test_ids else f"test image {number}" for number in position.tolist())

    @property
    def plain_view(self) -> View:
        """`plain_view(index)`: the images at `index` (B,), float32, normalised, not augmented.

        Those in files are a `ReadView`, which a pass over the pool reads ahead.
        """
        return changed(self._stored, torch.no_grad()(self.normalise))

    @property
    def _stored(self) -> View:
        """The images as they are stored, uint8."""
        if isinstance(self.pool_images, StreamedImages):
            return ReadView(self.pool_images.__getitem__)
        return self.images

    def images_in_parts(self, index: Tensor, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `size` of the indices (M,) at a time and their images, uint8, on `device`; files are read ahead."""
        parts = index.split(size)
        for part, images in zip(parts, images_of_parts(self._stored, parts, device), strict=True):
            yield part.to(device), images

    @torch.no_grad()
    def augmented_views(self, index: Tensor, purpose: str, images: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return weak and strong views of `index` (B,), a function of (seed, round, purpose, index).

        `images` are those at `index`, uint8, where they have been read.
        """
        images = self.images(index) if images is None else images
        weak, strong = (
            Draws(derive_key(self.seed, f"{purpose}:{name}", self.round_number), index)
            for name in ("weak_view", "strong_view")
        )
        return self.normalise(self.weak(images, weak)), self.normalise(self.strong(images, strong))

    def images(self, index: Tensor) -> Tensor:
        """Return the pool's images at `index` (B,) as (B, channels, height, width) uint8 on the device of `index`."""
        if isinstance(self.pool_images, StreamedImages):
            return self.pool_images[index].to(index.device)
        if index.device.type == "cpu":  # a few images to look at: the pool stays where it is
            return self.pool_images[index.to(self.pool_images.device)].cpu()
        return self._on_device("pool_images", index)[index]

    def _on_device(self, name: str, like: Tensor) -> Tensor:
        tensor = cast(Tensor, getattr(self, name))
        if tensor.device != like.device:
            tensor = tensor.to(like.device)
            setattr(self, name, tensor)
        return tensor

    def state_dict(self) -> dict[str, Any]:
        """Return the pool's state, for a checkpoint."""
        return {"pool": self.pool.state_dict(), "round_number": self.round_number, "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.pool.load_state_dict(state_dict["pool"])
        self.round_number, self.seed = state_dict["round_number"], state_dict["seed"]


class _Steps(Loaded[dict[str, Any]]):
    """A step's indices with the labels of its labelled samples; the labels of the others are unknown here."""

    def __init__(self, labels: Tensor, images: StoredImages) -> None:
        super().__init__(images)
        self.labels = labels

    def __getitem__(self, item: StepIndices) -> dict[str, Any]:
        labelled = item._asdict() | {"label": self.labels[item.labelled]}
        if self.files is None:
            return labelled
        return labelled | self.decode(torch.cat([item.labelled, item.unlabelled]))


class _Positions(Loaded[Tensor | dict[str, Any]]):
    """Positions of test images, with the pixels where images are in files."""

    def __getitem__(self, position: Tensor) -> Tensor | dict[str, Any]:
        if self.files is None:
            return position
        return {"position": position} | self.decode(position.clamp(min=0))
