"""SVHN: 99,289 colour images of 32 × 32 pixels, cropped house-number digits from street views (Netzer et al. 2011)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import SVHN

from assl_lightning.base.paths import expanded
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.files import DataFile, obtain_files


def load_svhn(
    root: str | Path, download: bool = True, pool_size: int = 60_000, dataset: type[SVHN] = SVHN
) -> PoolSource:
    """Read SVHN: the first `pool_size` of the 73,257 training images are the pool, the 26,032 test images the test set.

    ALFA-Mix, and with it the paper, takes 60,000. Images are (N, 3, 32, 32), labels the digits themselves. The .mat
    files of the data set's page lie in `root`; `dataset` has their names and MD5 sums. Sample ids are
    "svhn/train/00042".

    Raises:
        FileNotFoundError: a file is missing, without `download`.
        RuntimeError: the download failed, or a file is damaged.
        ValueError: `pool_size` is not in 1 … the number of training images.
    """
    root = expanded(root)
    files = [DataFile(root / filename, md5) for _, filename, md5 in (dataset.split_list[s] for s in ("train", "test"))]

    def fetch() -> None:
        for split in ("train", "test"):
            dataset(root, split=split, download=True)

    obtain_files("SVHN", root, files, fetch if download else None)

    train, test = dataset(root, split="train"), dataset(root, split="test")
    if not 1 <= pool_size <= len(train.labels):
        raise ValueError(
            f"pool_size must be in 1 … {len(train.labels)}, the number of training images; got {pool_size}"
        )
    return PoolSource(
        pool_images=torch.from_numpy(np.ascontiguousarray(train.data[:pool_size])),
        hidden_labels=torch.from_numpy(train.labels[:pool_size]),
        test_images=torch.from_numpy(np.ascontiguousarray(test.data)),
        test_labels=torch.from_numpy(test.labels),
        class_names=tuple(str(digit) for digit in range(10)),
        sample_ids=tuple(f"svhn/train/{position:05d}" for position in range(pool_size)),
    )
