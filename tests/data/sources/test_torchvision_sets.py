"""Small data sets in the formats of torchvision's own, against what these classes hand out."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import FakeData, ImageFolder

from assl_lightning.data.sources.any_dataset import load_dataset
from assl_lightning.data.sources.torchvision_sets import load_torchvision
from tests.stored_images import in_memory

PIXELS = np.random.default_rng(0).integers(256, size=(14, 28, 28), dtype=np.uint8)
LABELS = np.arange(14, dtype=np.uint8) % 10
GREY: dict[str, Any] = {"image_size": [28, 28], "channels": 1, "num_classes": 10}


def make_mnist(root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, rows in (("train", slice(0, 10)), ("t10k", slice(10, 14))):
        images, labels = PIXELS[rows], LABELS[rows]
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels.tobytes())
    return root


def make_eurosat(root: Path) -> Path:
    for place, pixels in enumerate(PIXELS):
        path = root / "eurosat" / "2750" / ("Forest" if place % 2 else "River") / f"{place:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert("RGB").save(path)
    return root


def test_a_class_with_a_part_to_train_on_gives_pool_and_test(tmp_path: Path) -> None:
    source = load_torchvision("MNIST", root=make_mnist(tmp_path), **GREY)
    assert torch.equal(in_memory(source.pool_images), torch.from_numpy(PIXELS[:10])[:, None])
    assert torch.equal(in_memory(source.test_images), torch.from_numpy(PIXELS[10:])[:, None])
    assert source.hidden_labels.tolist() == LABELS[:10].tolist()
    assert source.test_labels.tolist() == LABELS[10:].tolist()
    assert source.class_names[:2] == ("0 - zero", "1 - one")
    assert source.sample_ids[:2] == ("MNIST/train/000000", "MNIST/train/000001")


def test_a_class_without_parts_parts_itself(tmp_path: Path) -> None:
    source = load_torchvision("EuroSAT", root=make_eurosat(tmp_path), **(GREY | {"num_classes": 2}), test_fraction=0.4)
    assert source.class_names == ("Forest", "River")
    assert 0 < len(source.test_labels) < 14
    assert len(source.sample_ids) + len(source.test_labels) == 14
    in_order = [place for place in range(14) if place % 2] + [place for place in range(14) if place % 2 == 0]
    of_pool = [in_order[int(name.removeprefix("EuroSAT/"))] for name in source.sample_ids]
    assert torch.equal(in_memory(source.pool_images), torch.from_numpy(PIXELS[of_pool])[:, None])


def test_the_arguments_of_a_class_make_its_parts_and_classes_without_names_are_numbers() -> None:
    pool, test = ({"size": size, "image_size": [3, 8, 9], "num_classes": 4} for size in (12, 5))
    source = load_torchvision("FakeData", image_size=[8, 9], channels=3, num_classes=4, pool=pool, test=test)
    made = FakeData(**pool)
    expected = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in made])
    assert torch.equal(in_memory(source.pool_images), expected)
    assert source.hidden_labels.tolist() == [label for _, label in made]
    assert len(source.test_labels) == 5
    assert source.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"dataset": "stl10"},
            r"dataset must be the name of a class of torchvision\.datasets, .* got 'stl10' \(did you",
        ),
        ({"dataset": "vision"}, r"got 'vision'"),
        ({"dataset": "MNIST", "pool": {"split": "x"}}, r"MNIST takes no argument 'split'; it takes root, train"),
        ({"dataset": "MNIST"}, r"torchvision's MNIST must lie under .*missing, whole \(.+\); set download: true"),
        ({"dataset": "ImageNet", "download": True}, r"torchvision cannot download ImageNet; fetch it yourself"),
        (
            {"dataset": "FakeData", "pool": {"size": 3, "num_classes": 7}, "num_classes": 2},
            "is not among the 2 classes",
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        load_torchvision(**(GREY | {"root": tmp_path / "missing"} | arguments))


@pytest.mark.parametrize("reader", ["torchvision", "dataset"])
def test_a_folder_that_has_a_runs_own_pictures_among_its_classes_is_refused(tmp_path: Path, reader: str) -> None:
    make_eurosat(tmp_path)
    pictures = tmp_path / "eurosat" / "2750" / "runs" / "round_00" / "to_label" / "images"
    pictures.mkdir(parents=True)
    Image.fromarray(PIXELS[0]).save(pictures / "0000.png")
    readers: dict[str, Callable[..., Any]] = {
        "torchvision": lambda **shape: load_torchvision("EuroSAT", root=tmp_path, **shape),
        "dataset": lambda **shape: load_dataset(ImageFolder(tmp_path / "eurosat" / "2750"), **shape),
    }
    with pytest.raises(ValueError, match=r"has 1 pictures in it that a run has written, such as .*0000\.png; move the"):
        readers[reader](**(GREY | {"num_classes": 3}))
