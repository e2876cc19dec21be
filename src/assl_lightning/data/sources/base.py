"""What every data source returns: the pool's images, the labels that the oracle holds back, and a labelled test set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from assl_lightning.data.image_stream import StoredImages, take_images


@dataclass(frozen=True)
class PoolSource:
    """A data set for active learning. Images are uint8, the pool's order is the index space and never changes.

    They lie in memory, as a tensor, or in files that are decoded when they are looked at (`StreamedImages`).

    `hidden_labels` are for the oracle alone: nothing that trains or acquires is given them. An image that cannot be
    decoded (`unreadable`), or that was there when a run began and is gone (`absent`), keeps its place, label and name,
    and any pixels stand for it; a run takes it out of its pool for good.
    """

    pool_images: StoredImages  # (N, channels, height, width) uint8
    hidden_labels: Tensor = field(repr=False)  # (N,) int64 in [0, C), −1 where nobody knows
    test_images: StoredImages  # (M, channels, height, width) uint8
    test_labels: Tensor  # (M,) int64 in [0, C)
    class_names: tuple[str, ...]  # C names
    sample_ids: tuple[str, ...] = field(repr=False)  # N stable, distinct names, as files that people exchange key them
    unreadable: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # (K,) int64, ascending
    absent: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # (G,) likewise; see `growth`
    reasons: tuple[str, ...] = field(default=(), repr=False)  # K texts, why each is unreadable; () where it is not said
    passed_over: Mapping[str, int] = field(default_factory=dict)  # suffix → files beside the images that end so
    test_ids: tuple[str, ...] = field(default=(), repr=False)  # M names of the test images; () where they have none
    paths: tuple[Path, ...] = field(default=(), repr=False)  # N files, as people look at them; () where there are none

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
                unknown = ", or be -1 where nobody knows" if least else ""
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
        """The same test set, and some of the pool's images in the order of `index` (K,) int64; indices close up."""
        places = index.tolist()
        return replace(
            self,
            pool_images=take_images(self.pool_images, index),
            hidden_labels=self.hidden_labels[index],
            sample_ids=tuple(self.sample_ids[place] for place in places),
            unreadable=torch.isin(index, self.unreadable).nonzero()[:, 0],
            reasons=self.reasons_at(places),
            absent=torch.isin(index, self.absent).nonzero()[:, 0],
            paths=tuple(self.paths[place] for place in places) if self.paths else (),
        )

    def reasons_at(self, places: Sequence[int]) -> tuple[str, ...]:
        """The reasons of the unreadable images among `places`, in the order of `places`."""
        reasons = dict(zip(self.unreadable.tolist(), self.reasons, strict=False))
        return tuple(reasons[place] for place in places if place in reasons)

    def digest(self) -> str:
        """A digest of the data set, to recognise one whose samples' names are mere places: 32 hexadecimal digits.

        It is of the classes, the images' size and all labels, not of pixels, which may be decoded in other last bits.
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
