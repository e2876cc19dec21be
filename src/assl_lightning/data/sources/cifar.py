"""CIFAR-10 and CIFAR-100: 60,000 colour images of 32 × 32 pixels each (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100

from assl_lightning.base.paths import expanded
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.files import DataFile, obtain_files


def load_cifar10(root: str | Path, download: bool = True, dataset: type[CIFAR10] = CIFAR10) -> PoolSource:
    """Read CIFAR-10: the 50,000 training images are the pool, the 10,000 test images the test set; (N, 3, 32, 32).

    The files lie where torchvision has them, in `root`/cifar-10-batches-py; `dataset` has their names and MD5 sums.
    Sample ids are "cifar10/train/00042", with the index over the five training batches in a row.

    Raises:
        FileNotFoundError: a file is missing, without `download`.
        RuntimeError: the download failed, or a file is damaged.
    """
    return _load("CIFAR-10", "cifar10", root, download=download, dataset=dataset)


def load_cifar100(root: str | Path, download: bool = True, dataset: type[CIFAR100] = CIFAR100) -> PoolSource:
    """Read CIFAR-100 with its 100 fine classes, as `load_cifar10` does; the files lie in `root`/cifar-100-python."""
    return _load("CIFAR-100", "cifar100", root, download=download, dataset=dataset)


def _load(name: str, id_prefix: str, root: str | Path, *, download: bool, dataset: type[CIFAR10]) -> PoolSource:
    root = expanded(root)
    directory = root / dataset.base_folder
    sums = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
    files = [DataFile(directory / filename, md5) for filename, md5 in sums]
    obtain_files(name, root, files, (lambda: dataset(root, download=True)) if download else None)

    train, test = dataset(root, train=True), dataset(root, train=False)
    return PoolSource(
        pool_images=torch.from_numpy(train.data).permute(0, 3, 1, 2).contiguous(),
        hidden_labels=torch.tensor(train.targets, dtype=torch.int64),
        test_images=torch.from_numpy(test.data).permute(0, 3, 1, 2).contiguous(),
        test_labels=torch.tensor(test.targets, dtype=torch.int64),
        class_names=tuple(train.classes),
        sample_ids=tuple(f"{id_prefix}/train/{position:05d}" for position in range(len(train.targets))),
    )
