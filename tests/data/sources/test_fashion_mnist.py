"""Small files in the real format, with sums of their own; and Debian's package where it is installed."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.datasets import FashionMNIST

from assl_lightning.data.sources.fashion_mnist import load_fashion_mnist
from tests.stored_images import in_memory

DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
NAMES = [name for name, _ in FashionMNIST.resources]
NOWHERE = "/nonexistent"

needs_debian = pytest.mark.skipif(
    not all((DEBIAN_DIR / name).is_file() for name in NAMES),
    reason="Debian's package dataset-fashion-mnist is not installed",
)


def pack(numbers: npt.NDArray[np.uint8]) -> bytes:
    header = struct.pack(f">BBBB{numbers.ndim}I", 0, 0, 8, numbers.ndim, *numbers.shape)
    return gzip.compress(header + numbers.tobytes(), mtime=0)


def make_arrays() -> dict[str, npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    arrays: dict[str, npt.NDArray[np.uint8]] = {}
    for name in NAMES:
        count = 12 if name.startswith("train") else 5
        shape = (count, 28, 28) if "images" in name else (count,)
        arrays[name] = generator.integers(0, 256 if "images" in name else 10, shape, dtype=np.uint8)
    return arrays


def make_data_set(directory: Path, contents: dict[str, bytes]) -> type[FashionMNIST]:
    """Write the files into `directory`; torchvision's class with their sums, and without a mirror."""
    directory.mkdir(parents=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in contents.items()]
    members = {"resources": sums, "mirrors": []}
    return type("FashionMNIST", (FashionMNIST,), members)


def test_images_and_labels_are_the_ones_in_torchvisions_place(tmp_path: Path) -> None:
    arrays = make_arrays()
    packed = {name: pack(array) for name, array in arrays.items()}
    dataset = make_data_set(tmp_path / "FashionMNIST" / "raw", packed)
    source = load_fashion_mnist(tmp_path, download=False, debian_dir=NOWHERE, dataset=dataset)
    np.testing.assert_array_equal(in_memory(source.pool_images)[:, 0], arrays["train-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(source.hidden_labels, arrays["train-labels-idx1-ubyte.gz"])
    np.testing.assert_array_equal(in_memory(source.test_images)[:, 0], arrays["t10k-images-idx3-ubyte.gz"])
    np.testing.assert_array_equal(source.test_labels, arrays["t10k-labels-idx1-ubyte.gz"])
    assert source.pool_images.shape == (12, 1, 28, 28)
    assert source.sample_ids[11] == "fashion_mnist/train/00011"
    assert source.class_names[9] == "Ankle boot"


def test_missing_files_are_fetched_from_the_mirror_that_has_them(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    arrays = make_arrays()
    dataset = make_data_set(tmp_path / "mirror", {name: pack(array) for name, array in arrays.items()})
    empty = tmp_path / "empty"
    empty.mkdir()
    dataset.mirrors = [serve(empty), serve(tmp_path / "mirror")]
    source = load_fashion_mnist(tmp_path / "data", debian_dir=NOWHERE, dataset=dataset)
    np.testing.assert_array_equal(in_memory(source.pool_images)[:, 0], arrays["train-images-idx3-ubyte.gz"])
    assert (tmp_path / "data" / "FashionMNIST" / "raw" / NAMES[0]).is_file()


def test_a_download_that_no_mirror_has_says_where_to(tmp_path: Path, serve: Callable[[Path], str]) -> None:
    dataset = make_data_set(tmp_path / "mirror", {name: pack(array) for name, array in make_arrays().items()})
    dataset.mirrors = [serve(tmp_path / "empty")]
    place = tmp_path / "data" / "FashionMNIST" / "raw"
    with pytest.raises(RuntimeError, match=rf"Fashion-MNIST could not be downloaded to {place} \(HTTP Error 404"):
        load_fashion_mnist(tmp_path / "data", debian_dir=NOWHERE, dataset=dataset)


def test_missing_files_without_a_download_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"missing: {tmp_path}/FashionMNIST/raw/train-images-idx3-ubyte.gz, "):
        load_fashion_mnist(tmp_path, download=False, debian_dir=NOWHERE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        struct.pack(">BBBBI", 0, 0, 8, 1, 13) + bytes(12),
        struct.pack(">BBBBI", 0, 0, 9, 1, 12) + bytes(12),
        struct.pack(">BBBBI", 1, 0, 8, 1, 12) + bytes(12),
    ],
    ids=["nothing", "half a header", "too short", "signed", "another format"],
)
def test_a_file_that_is_not_in_the_format_is_named(tmp_path: Path, content: bytes) -> None:
    contents = {name: pack(array) for name, array in make_arrays().items()}
    contents["train-labels-idx1-ubyte.gz"] = gzip.compress(content)
    dataset = make_data_set(tmp_path / "FashionMNIST" / "raw", contents)
    message = f"{NAMES[1]} must hold unsigned bytes in the IDX format, with 1 axes; .* holds {len(content)} bytes"
    with pytest.raises(RuntimeError, match=message):
        load_fashion_mnist(tmp_path, download=False, debian_dir=NOWHERE, dataset=dataset)


def test_a_damaged_file_of_debians_package_is_named(tmp_path: Path) -> None:
    make_data_set(tmp_path / "debian", {name: pack(array) for name, array in make_arrays().items()})
    message = (
        f"{tmp_path}/debian/{NAMES[0]} is damaged, or another data set: .*must be f4a8712d7a061bf5bd6d2ca38dc4d50a"
    )
    with pytest.raises(RuntimeError, match=message):
        load_fashion_mnist(tmp_path, debian_dir=tmp_path / "debian")


def test_a_file_that_gzip_cannot_unpack_is_named(tmp_path: Path) -> None:
    contents = {name: pack(array)[:-9] for name, array in make_arrays().items()}
    dataset = make_data_set(tmp_path / "FashionMNIST" / "raw", contents)
    with pytest.raises(RuntimeError, match=f"{NAMES[0]} is damaged, gzip cannot unpack it"):
        load_fashion_mnist(tmp_path, download=False, debian_dir=NOWHERE, dataset=dataset)


@needs_debian
@pytest.mark.parametrize(("name", "published_md5"), FashionMNIST.resources)
def test_debians_files_with_the_publishers_header_have_the_published_sums(name: str, published_md5: str) -> None:
    """The sums of the unpacked files are ours; this ties them to the ones that torchvision gives."""
    packed = (DEBIAN_DIR / name).read_bytes()
    packed_at = 1504176606 if name.startswith("train") else 1504176627  # 31 August 2017
    header = struct.pack("<BBBBIBB", 0x1F, 0x8B, 8, 8, packed_at, 0, 3) + name.removesuffix(".gz").encode() + b"\0"
    assert hashlib.md5(header + packed[10:]).hexdigest() == published_md5


@needs_debian
def test_debians_package_holds_the_published_images() -> None:
    source = load_fashion_mnist(NOWHERE, download=False, debian_dir=DEBIAN_DIR)
    assert source.pool_images.shape == (60_000, 1, 28, 28)
    assert source.test_images.shape == (10_000, 1, 28, 28)
    torch.testing.assert_close(source.hidden_labels.bincount(), torch.full((10,), 6_000))
    torch.testing.assert_close(source.test_labels.bincount(), torch.full((10,), 1_000))
    assert source.hidden_labels[:5].tolist() == [9, 0, 0, 3, 0]  # as everybody who plotted the first rows has seen
