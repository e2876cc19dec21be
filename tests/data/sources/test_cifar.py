"""Small files in the real format, pickled batches, with sums of their own."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from assl_lightning.data.sources.cifar import load_cifar10, load_cifar100
from tests.stored_images import in_memory

ROWS = 4  # images a batch


def make_batch(seed: int, label_key: str, num_classes: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {
        "data": generator.integers(0, 256, (ROWS, 3 * 32 * 32), dtype=np.uint8),
        label_key: generator.integers(0, num_classes, ROWS).tolist(),
    }


def write_pickle(path: Path, content: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


def make_cifar10(root: Path) -> tuple[type[CIFAR10], list[dict[str, Any]]]:
    """Five training batches and a test batch under `root`; torchvision's class with their sums."""
    directory = root / CIFAR10.base_folder
    batches = [make_batch(seed, "labels", 10) for seed in range(6)]
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    sums = [[name, write_pickle(directory / name, batch)] for name, batch in zip(names, batches, strict=True)]
    class_names = [f"class {k}" for k in range(10)]
    meta_md5 = write_pickle(directory / "batches.meta", {"label_names": class_names})
    members = {"train_list": sums[:5], "test_list": sums[5:], "meta": {**CIFAR10.meta, "md5": meta_md5}}
    return type("SmallCIFAR10", (CIFAR10,), members), batches


def as_images(batch: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """Each row is 1,024 red, then green, then blue values, each row by row."""
    images: npt.NDArray[np.uint8] = batch["data"].reshape(ROWS, 3, 32, 32)
    return images


def test_the_five_training_batches_in_a_row_are_the_pool(tmp_path: Path) -> None:
    dataset, batches = make_cifar10(tmp_path)
    source = load_cifar10(tmp_path, download=False, dataset=dataset)
    np.testing.assert_array_equal(source.pool_images, np.concatenate([as_images(b) for b in batches[:5]]))
    np.testing.assert_array_equal(source.hidden_labels, np.concatenate([b["labels"] for b in batches[:5]]))
    np.testing.assert_array_equal(source.test_images, as_images(batches[5]))
    np.testing.assert_array_equal(source.test_labels, batches[5]["labels"])
    assert in_memory(source.pool_images).is_contiguous()
    assert source.class_names == tuple(f"class {k}" for k in range(10))
    assert source.sample_ids[5] == "cifar10/train/00005"


def test_the_fine_labels_are_the_classes_of_cifar100(tmp_path: Path) -> None:
    directory = tmp_path / CIFAR100.base_folder
    train, test = make_batch(0, "fine_labels", 100), make_batch(1, "fine_labels", 100)
    train["coarse_labels"] = test["coarse_labels"] = [0] * ROWS
    fine_names = [f"fine {k}" for k in range(100)]
    meta = {"fine_label_names": fine_names, "coarse_label_names": [f"coarse {k}" for k in range(20)]}
    members = {
        "train_list": [["train", write_pickle(directory / "train", train)]],
        "test_list": [["test", write_pickle(directory / "test", test)]],
        "meta": {**CIFAR100.meta, "md5": write_pickle(directory / "meta", meta)},
    }
    source = load_cifar100(tmp_path, download=False, dataset=type("SmallCIFAR100", (CIFAR100,), members))
    np.testing.assert_array_equal(source.pool_images, as_images(train))
    np.testing.assert_array_equal(source.hidden_labels, train["fine_labels"])
    np.testing.assert_array_equal(source.test_labels, test["fine_labels"])
    assert source.class_names == tuple(fine_names)
    assert source.sample_ids[0] == "cifar100/train/00000"


def test_a_missing_data_set_is_fetched_and_unpacked(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    dataset, batches = make_cifar10(tmp_path / "source")
    archive = tmp_path / dataset.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "source" / dataset.base_folder, arcname=dataset.base_folder)
    dataset.url = serve(tmp_path) + archive.name
    dataset.tgz_md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    source = load_cifar10(tmp_path / "data", dataset=dataset)
    np.testing.assert_array_equal(source.test_images, as_images(batches[5]))


def test_a_failed_download_names_the_place(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    dataset, _ = make_cifar10(tmp_path / "source")
    dataset.url = serve(tmp_path) + "nothing.tar.gz"
    with pytest.raises(RuntimeError, match=f"CIFAR-10 could not be downloaded to {tmp_path}/data .*data_batch_1, "):
        load_cifar10(tmp_path / "data", dataset=dataset)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    dataset, _ = make_cifar10(tmp_path)
    path = tmp_path / dataset.base_folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match=rf"CIFAR-10 must lie under {tmp_path}, whole: damaged .*: {path};"):
        load_cifar10(tmp_path, download=False, dataset=dataset)


def test_a_missing_data_set_without_a_download_says_what_to_do(tmp_path: Path) -> None:
    message = f"CIFAR-100 must lie under {tmp_path}, whole: missing: .*set download: true"
    with pytest.raises(FileNotFoundError, match=message):
        load_cifar100(tmp_path, download=False)
