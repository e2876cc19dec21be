"""Fashion-MNIST: 70,000 grey images of 28 × 28 pixels of ten kinds of clothing (Xiao, Rasul & Vollgraf 2017)."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import download_url

from assl_lightning.base.paths import expanded
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.data.sources.files import DataFile, obtain_files

_UNSIGNED_BYTES = 8  # the IDX format's code for this type of number

# MD5 sums of the unpacked files: Debian packs them again, without the name and time in gzip's header.
_UNPACKED_MD5 = {
    "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
}


def load_fashion_mnist(
    root: str | Path,
    download: bool = True,
    debian_dir: str | Path = "/usr/share/datasets/fashion-mnist",
    dataset: type[FashionMNIST] = FashionMNIST,
) -> PoolSource:
    """Read Fashion-MNIST: the 60,000 training images are the pool, the 10,000 test images the test set; (N, 1, 28, 28).

    Where `debian_dir` has the four files (Debian's package dataset-fashion-mnist), they are read there. Otherwise they
    are read where torchvision has them, in `root`/FashionMNIST/raw, and with `download` fetched; `dataset` has their
    names, MD5 sums and mirrors. Sample ids are "fashion_mnist/train/00042".

    Raises:
        FileNotFoundError: a file is missing, without `download`.
        RuntimeError: the download failed, or a file is damaged.
    """
    debian_dir = expanded(debian_dir)
    if all((debian_dir / name).is_file() for name in _UNPACKED_MD5):
        contents = {name: _unpack(debian_dir / name, md5) for name, md5 in _UNPACKED_MD5.items()}
    else:
        directory = expanded(root) / dataset.__name__ / "raw"
        files = [DataFile(directory / name, md5) for name, md5 in dataset.resources]

        def fetch() -> None:
            for file in files:
                _fetch_from_mirrors(dataset.mirrors, file)

        obtain_files("Fashion-MNIST", directory, files, fetch if download else None)
        contents = {file.path.name: _unpack(file.path) for file in files}

    pool_images = _read_idx("train-images-idx3-ubyte.gz", contents)
    test_images = _read_idx("t10k-images-idx3-ubyte.gz", contents)
    return PoolSource(
        pool_images=pool_images[:, None],
        hidden_labels=_read_idx("train-labels-idx1-ubyte.gz", contents).long(),
        test_images=test_images[:, None],
        test_labels=_read_idx("t10k-labels-idx1-ubyte.gz", contents).long(),
        class_names=tuple(dataset.classes),
        sample_ids=tuple(f"fashion_mnist/train/{position:05d}" for position in range(len(pool_images))),
    )


def _fetch_from_mirrors(mirrors: list[str], file: DataFile) -> None:
    """Fetch the file from the first mirror that has it; raise the last mirror's error where none has it."""
    for position, mirror in enumerate(mirrors, start=1):
        try:
            download_url(f"{mirror}{file.path.name}", str(file.path.parent), file.path.name, file.md5)
        except (OSError, RuntimeError):
            if position == len(mirrors):
                raise
        else:
            return


def _unpack(path: Path, md5: str | None = None) -> bytes:
    """Return the content of a gzip file; `md5`, where it is given, must be the content's sum."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as problem:
        raise RuntimeError(
            f"{path} is damaged, gzip cannot unpack it ({problem}); install or fetch it again"
        ) from problem
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise RuntimeError(
            f"{path} is damaged, or another data set: the MD5 sum of its content must be {md5}, and is {found}; "
            f"install it again, or set debian_dir to a directory without these files to have them fetched"
        )
    return content


def _read_idx(name: str, contents: dict[str, bytes]) -> Tensor:
    """Read numbers, as uint8, from a content in the IDX format: two zero bytes, type, number of axes, lengths, numbers.

    Images have three axes and labels one, as their names show (…-idx3-…).
    """
    content = contents[name]
    num_axes = int(name.partition("-idx")[2][0])
    first_number = 4 + 4 * num_axes
    lengths = [int.from_bytes(content[start : start + 4], "big") for start in range(4, first_number, 4)]
    is_idx = content[:4] == bytes([0, 0, _UNSIGNED_BYTES, num_axes]) and len(content) >= first_number
    if not is_idx or len(content) - first_number != math.prod(lengths):
        raise RuntimeError(
            f"{name} must hold unsigned bytes in the IDX format, with {num_axes} axes; it begins with "
            f"{content[:16].hex(' ')} and holds {len(content)} bytes; fetch it again"
        )
    numbers = np.frombuffer(content, dtype=np.uint8, offset=first_number).reshape(lengths)
    return torch.from_numpy(numbers.copy())  # a copy, because bytes are read-only
