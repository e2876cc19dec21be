"""What every data source returns: the pool's images, the labels that the oracle holds back, and a labelled test set."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class PoolSource:
    """A data set for active learning. Images are uint8, the pool's order is the index space and never changes.

    `hidden_labels` are for the oracle alone: nothing that trains or acquires is given them.
    """

    pool_images: Tensor  # (N, channels, height, width) uint8
    hidden_labels: Tensor = field(repr=False)  # (N,) int64 in [0, C)
    test_images: Tensor  # (M, channels, height, width) uint8
    test_labels: Tensor  # (M,) int64 in [0, C)
    class_names: tuple[str, ...]  # C names
    sample_ids: tuple[str, ...] = field(repr=False)  # N stable, distinct names, as files that people exchange key them

    def __post_init__(self) -> None:
        for name, images, labels in (
            ("pool", self.pool_images, self.hidden_labels),
            ("test", self.test_images, self.test_labels),
        ):
            if images.dtype != torch.uint8 or images.ndim != 4:
                raise ValueError(
                    f"the {name} images must be uint8 of shape (N, channels, height, width); "
                    f"got {images.dtype} of shape {tuple(images.shape)}"
                )
            if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"the {name} labels must be int64 of shape ({images.shape[0]},), one for each image; "
                    f"got {labels.dtype} of shape {tuple(labels.shape)}"
                )
            if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < len(self.class_names)):
                raise ValueError(
                    f"the {name} labels must lie in [0, {len(self.class_names)}), one number per class name; "
                    f"got {int(labels.min())} … {int(labels.max())}"
                )
        if len(set(self.sample_ids)) != len(self.pool_images):
            raise ValueError(
                f"sample_ids must be distinct and as many as the pool's {len(self.pool_images)} images; "
                f"got {len(self.sample_ids)}, {len(set(self.sample_ids))} of them distinct"
            )
