"""Small files in the real format, MATLAB's, with sums of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from torchvision.datasets import SVHN

from assl_lightning.data.sources.svhn import load_svhn
from tests.stored_images import in_memory

Arrays = dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


def make_svhn(root: Path, address: str = "") -> tuple[type[SVHN], Arrays]:
    """Files of 12 training and 5 test images; torchvision's class with their sums, to be fetched at `address`."""
    root.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    arrays: Arrays = {}
    split_list: dict[str, list[str]] = {}
    for split, count in (("train", 12), ("test", 5)):
        images = generator.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)  # height, width, channels, images
        labels = (1 + np.arange(count) % 10).astype(np.uint8)[:, None]  # 10 is the digit 0
        path = root / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": labels})
        split_list[split] = [address + path.name, path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        arrays[split] = (images, labels)
    return type("SmallSVHN", (SVHN,), {"split_list": split_list}), arrays


def test_the_first_training_images_are_the_pool(tmp_path: Path) -> None:
    dataset, arrays = make_svhn(tmp_path)
    source = load_svhn(tmp_path, download=False, pool_size=11, dataset=dataset)
    assert source.pool_images.shape == (11, 3, 32, 32)
    assert in_memory(source.pool_images).is_contiguous()
    assert source.test_images.shape == (5, 3, 32, 32)
    for images, split in ((source.pool_images, "train"), (source.test_images, "test")):
        for position, image in enumerate(in_memory(images)):
            expected = arrays[split][0][:, :, :, position].transpose(2, 0, 1)
            np.testing.assert_array_equal(image, expected)
    assert source.hidden_labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert source.test_labels.tolist() == [1, 2, 3, 4, 5]
    assert source.class_names == tuple("0123456789")
    assert source.sample_ids[10] == "svhn/train/00010"


def test_missing_files_are_fetched(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    dataset, _ = make_svhn(tmp_path / "mirror", serve(tmp_path / "mirror"))
    source = load_svhn(tmp_path / "data", pool_size=12, dataset=dataset)
    assert len(source.pool_images) == 12


@pytest.mark.parametrize("pool_size", [0, 13])
def test_a_pool_larger_than_the_training_set_is_refused(tmp_path: Path, pool_size: int) -> None:
    dataset, _ = make_svhn(tmp_path)
    with pytest.raises(
        ValueError, match=f"pool_size must be in 1 … 12, the number of training images; got {pool_size}"
    ):
        load_svhn(tmp_path, download=False, pool_size=pool_size, dataset=dataset)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    dataset, _ = make_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=rf"SVHN must lie under {tmp_path}, whole: damaged .*: {path};"):
        load_svhn(tmp_path, download=False, dataset=dataset)


def test_missing_files_without_a_download_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"missing: {tmp_path}/train_32x32.mat, {tmp_path}/test_32x32.mat; set"):
        load_svhn(tmp_path, download=False)


def test_a_failed_download_names_the_place(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    dataset, _ = make_svhn(tmp_path / "mirror", serve(tmp_path / "mirror"))
    (tmp_path / "mirror" / "test_32x32.mat").unlink()
    with pytest.raises(
        RuntimeError, match=f"SVHN could not be downloaded to {tmp_path}/data .*HTTP Error 404.*missing: .*test_32x32"
    ):
        load_svhn(tmp_path / "data", dataset=dataset)
