"""The result of every data source: the pool's images, their labels for the oracle, and a labelled test set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from assl_lightning.data.file_reading import ImageFile
from assl_lightning.data.image_stream import StoredImages, take_images


@dataclass(frozen=True)
class PoolSource:
    """A data set for active learning. An image of the pool is known by its index, which never changes.

    Images are uint8, as a tensor, or in files that are decoded when they are looked at (`StreamedImages`).

    `hidden_labels` are for the oracle alone: neither training nor acquisition is given them. An image that cannot be
    decoded (`unreadable`), or that was there when a run began and is gone (`absent`), keeps its index, label and name,
    and has any pixels; a run must leave it out of its pool (`Pool.exclude`).
    """

    pool_images: StoredImages  # (N, channels, height, width) uint8
    hidden_labels: Tensor = field(repr=False)  # (N,) int64 in [0, C), −1 where unknown
    test_images: StoredImages  # (M, channels, height, width) uint8
    test_labels: Tensor  # (M,) int64 in [0, C)
    class_names: tuple[str, ...]  # C names
    sample_ids: tuple[str, ...] = field(repr=False)  # N stable, distinct names, the keys of tables of labels
    unreadable: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # (K,) int64, ascending
    absent: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # (G,) likewise; see `growth`
    reasons: tuple[str, ...] = field(
        default=(), repr=False
    )  # K reasons why each is unreadable; () where there are none
    passed_over: Mapping[str, int] = field(default_factory=dict)  # suffix → number of other files among the images
    test_ids: tuple[str, ...] = field(default=(), repr=False)  # M names of the test images; () where they have none
    paths: tuple[ImageFile, ...] = field(default=(), repr=False)  # N files with the originals; () where there are none

    def __post_init__(self) -> None:
        for name, images, labels, least in (
            ("pool", self.pool_images, self.hidden_labels, -1),
            ("test", self.test_images, self.test_labels, 0),
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
            if len(labels) and not (int(labels.min()) >= least and int(labels.max()) < len(self.class_names)):
                unknown = ", or be -1 where unknown" if least else ""
                raise ValueError(
                    f"the {name} labels must lie in [0, {len(self.class_names)}), one number per class name{unknown}; "
                    f"got {int(labels.min())} … {int(labels.max())}"
                )
        if self.pool_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(
                f"pool and test images must be of one size, (channels, height, width); got "
                f"{tuple(self.pool_images.shape[1:])} in the pool and {tuple(self.test_images.shape[1:])} in the test"
            )
        if len(set(self.sample_ids)) != len(self.pool_images):
            raise ValueError(
                f"sample_ids must be distinct and as many as the pool's {len(self.pool_images)} images; "
                f"got {len(self.sample_ids)}, {len(set(self.sample_ids))} of them distinct"
            )
        if self.test_ids and len(set(self.test_ids)) != len(self.test_images):
            raise ValueError(
                f"test_ids must be distinct and as many as the {len(self.test_images)} test images, or none; got "
                f"{len(self.test_ids)}, {len(set(self.test_ids))} of them distinct"
            )
        if self.paths and len(self.paths) != len(self.pool_images):
            raise ValueError(
                f"paths must be as many as the pool's {len(self.pool_images)} images, or none; got {len(self.paths)}"
            )
        self._check_unreadable()

    def take(self, index: Tensor) -> PoolSource:
        """Return the source with the pool's images at `index` (K,) int64, which then have the indices 0 … K − 1."""
        indices = index.tolist()
        return replace(
            self,
            pool_images=take_images(self.pool_images, index),
            hidden_labels=self.hidden_labels[index],
            sample_ids=tuple(self.sample_ids[index] for index in indices),
            unreadable=torch.isin(index, self.unreadable).nonzero()[:, 0],
            reasons=self.reasons_at(indices),
            absent=torch.isin(index, self.absent).nonzero()[:, 0],
            paths=tuple(self.paths[index] for index in indices) if self.paths else (),
        )

    def reasons_at(self, indices: Sequence[int]) -> tuple[str, ...]:
        """Return the reasons of the images at `indices` that are unreadable, in the order of `indices`."""
        reasons = dict(zip(self.unreadable.tolist(), self.reasons, strict=False))
        return tuple(reasons[index] for index in indices if index in reasons)

    def digest(self) -> str:
        """Return 32 hexadecimal digits by which a data set is recognised whose sample ids are mere numbers.

        They are a digest of the classes, the images' size and all labels; not of the pixels, since another version of
        a decoder may change their last bits.
        """
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((self.class_names, tuple(self.pool_images.shape), len(self.test_images))).encode())
        for labels in (self.hidden_labels, self.test_labels):
            digest.update(labels.numpy().tobytes())
        return digest.hexdigest()

    def _check_unreadable(self) -> None:
        index = self.unreadable
        if self.reasons and len(self.reasons) != len(index):
            raise ValueError(
                f"reasons must be as many as the {len(index)} unreadable images, or none; got {len(self.reasons)}"
            )
        if index.dtype != torch.int64 or index.ndim != 1 or not bool((index[1:] > index[:-1]).all()):
            raise ValueError(
                f"unreadable must be int64 pool indices of shape (K,), ascending, each once; got {index.dtype} of "
                f"shape {tuple(index.shape)}"
            )
        if len(index) and not (int(index[0]) >= 0 and int(index[-1]) < len(self.pool_images)):
            raise ValueError(
                f"unreadable must lie in [0, {len(self.pool_images)}), the pool's indices; got "
                f"{int(index[0])} … {int(index[-1])}"
            )
