"""scikit-learn's handwritten digits: 1,797 grey images of 8 × 8 pixels that come with the library. No download."""

from __future__ import annotations

import numpy as np
import sklearn.datasets
import torch
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from torch import Tensor

from assl_lightning.data.sources.base import PoolSource

_LARGEST_VALUE = 16  # of a pixel, as scikit-learn has it
_NUM_CLASSES = 10


def load_digits(image_size: int = 16, num_test: int = 500, split_seed: int = 0) -> PoolSource:
    """Return the digits as images (N, 1, image_size, image_size), `num_test` of the 1,797 as the test set.

    The split is stratified by class and depends on `num_test` and `split_seed` alone; pool and test set keep the
    library's order. Images are resized bilinearly. A sample id has the index in the library, "digits/00042".

    Raises:
        ValueError: `image_size` below the 8 pixels of the originals, or a part with fewer images than classes.
    """
    digits = sklearn.datasets.load_digits()
    labels = torch.from_numpy(digits.target.astype(np.int64))
    largest_test = len(labels) - _NUM_CLASSES
    if image_size < digits.images.shape[1]:
        raise ValueError(f"image_size must be at least {digits.images.shape[1]}, the digits' own; got {image_size}")
    if not _NUM_CLASSES <= num_test <= largest_test:
        raise ValueError(
            f"num_test must be in {_NUM_CLASSES} … {largest_test}, so that pool and test set can hold every class; "
            f"got {num_test}"
        )
    images = _resize(torch.from_numpy(digits.images), image_size)
    pool, test = train_test_split(
        np.arange(len(labels)), test_size=num_test, stratify=digits.target, random_state=split_seed
    )
    pool, test = np.sort(pool), np.sort(test)
    return PoolSource(
        pool_images=images[pool],
        hidden_labels=labels[pool],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple(str(name) for name in digits.target_names),
        sample_ids=tuple(f"digits/{position:05d}" for position in pool),
    )


def _resize(images: Tensor, image_size: int) -> Tensor:
    """Resize (N, 8, 8) float64 in 0 … 16 to (N, 1, image_size, image_size) uint8 in 0 … 255, rounded once."""
    scaled = images[:, None] * (255 / _LARGEST_VALUE)
    resized = F.interpolate(scaled, size=(image_size, image_size), mode="bilinear", align_corners=False)
    return resized.round().to(torch.uint8)
