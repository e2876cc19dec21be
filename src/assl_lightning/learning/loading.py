"""Loaders for images in memory or in files: items are indices, and pixels where workers decode files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from assl_lightning.base.rules import checked
from assl_lightning.data.image_stream import StoredImages, StreamedImages
from assl_lightning.learning.settings import NumWorkers
from assl_lightning.learning.workers import Item, WorkerLoader, begin_worker


class Loaded(Dataset[Item]):
    """The data set of a loader, which decodes images in `files`; for images in memory it passes indices on."""

    def __init__(self, images: StoredImages) -> None:
        self.files = images if isinstance(images, StreamedImages) else None

    def decode(self, index: Tensor) -> dict[str, Tensor | str]:
        """Decode the images, or return the error as text: raised in a worker, it would come with a traceback."""
        assert self.files is not None
        try:
            return {"pixels": self.files[index]}
        except ValueError as error:
            return {"pixels": str(error)}


def decoded(item: dict[str, Any]) -> Tensor:
    """Return the images of an item that has pixels, uint8, or raise the error of their decoding."""
    pixels: Tensor | str = item["pixels"]
    if isinstance(pixels, Tensor):
        return pixels
    raise ValueError(pixels)


class LoadingDataModule(LightningDataModule):
    """A data module whose loaders have items that are whole batches.

    Args:
        num_workers: processes that decode images in files, for each training process; 0: the training process does.
    """

    def __init__(self, num_workers: int = 0) -> None:
        super().__init__()
        self.num_workers: int = checked("num_workers", num_workers, NumWorkers)
        self._loaders: WeakSet[WorkerLoader[Any]] = WeakSet()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch. To a GPU its indices go together, in one copy that the host does not wait for."""
        if isinstance(batch, dict) and device.type != "cpu":
            batch = batch | _moved_together(batch, device)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def stop_loading(self) -> None:
        """End the workers, also after a fit that was cut short."""
        for loader in list(self._loaders):
            loader.stop()

    def _loader(self, dataset: Loaded[Item], sampler: Sampler[Any]) -> DataLoader[Item]:
        """Make a loader whose items are batches. Indices alone come faster without workers."""
        if dataset.files is None:
            return DataLoader(dataset, batch_size=None, sampler=sampler)
        loader = WorkerLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            worker_init_fn=begin_worker,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )
        self._loaders.add(loader)
        return loader

    def _ranks(self) -> tuple[int, int]:
        """Return the number of processes, and the number of this one."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _steps_before(self) -> int:
        """Return the batches that a fit which goes on has seen.

        It asks for its first batch before Lightning tells the sampler where it is.
        """
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches


def _moved_together(batch: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Return the int64 vectors of a batch as views of one tensor on a GPU, to be read and not to be written."""
    rows = {name: value for name, value in batch.items() if isinstance(value, Tensor) and _is_index(value)}
    if not rows:
        return {}
    together = torch.cat(list(rows.values()))
    if device.type == "cuda":
        together = together.pin_memory()
    moved = together.to(device, non_blocking=device.type == "cuda")
    return dict(zip(rows, moved.split([len(row) for row in rows.values()]), strict=True))


def _is_index(value: Tensor) -> bool:
    return value.dtype == torch.int64 and value.ndim == 1
