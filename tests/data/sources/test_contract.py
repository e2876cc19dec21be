"""What every data set in conf/data must say. A new YAML there is tested without a new line here."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_method, get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from assl_lightning.augment.strong import StrongAugment
from assl_lightning.augment.weak import WeakAugment

CONF = Path(__file__).parents[3] / "conf" / "data"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))
KEYS = {
    "name",
    "num_classes",
    "num_samples",
    "channels",
    "image_size",
    "mean",
    "std",
    "imbalance_factor",
    "imbalance_seed",
    "unreadable",
    "num_workers",
    "root",
    "source",
    "weak",
    "strong",
}
OWN = {  # images of one's own → what has no value until it is given
    "folder": {"num_classes": 2, "root": "pool"},
    "image_folder": {"num_classes": 2, "root": "pool"},
    "manifest": {"num_classes": 2, "source": {"manifest": "images.csv"}},
    "torchvision": {"num_classes": 10, "source": {"dataset": "STL10"}},
    "huggingface": {"num_classes": 2, "source": {"path": "saved"}},
    "dataset": {"num_classes": 2, "source": {"pool": {"_target_": "torchvision.datasets.FakeData"}}},
}
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


@cache
def composed(name: str) -> DictConfig:
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        return compose("config", [f"data={name}"])


def load(name: str) -> DictConfig:
    data: DictConfig = OmegaConf.merge(composed(name), {"data": OWN.get(name, {})}).data
    return data


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_says_what_it_is_with_exactly_these_keys(name: str) -> None:
    data = load(name)
    assert set(data) == KEYS
    assert data.name == name
    assert (CONF / f"{name}.yaml").read_text().startswith("# ")
    if name in OWN:
        assert data.mean is data.std is data.num_samples is None, "only the images tell"
    else:
        assert len(data.mean) == len(data.std) == data.channels
    assert len(data.image_size) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_source_is_called_with_arguments_that_it_has(name: str) -> None:
    arguments: Any = OmegaConf.to_container(load(name).source, resolve=True)
    function = get_method(arguments.pop("_target_"))
    inspect.signature(function).bind(**arguments)
    assert arguments.get("root") == load(name).root


@pytest.mark.parametrize("name", NAMES)
def test_the_augmentation_is_fixmatchs(name: str) -> None:
    data = load(name)
    flip = name not in {"digits", "svhn"}
    weak = instantiate(data.weak)
    assert weak == WeakAugment(flip=flip, pad_fraction=0.125)
    expected = StrongAugment(weak=weak, num_ops=2, max_magnitude=9, op_probability=0.5, cutout_fraction=0.5)
    assert instantiate(data.strong) == expected
    assert get_object(data.strong._target_) is StrongAugment


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        pytest.param(
            "fashion_mnist",
            marks=pytest.mark.skipif(
                not FASHION_MNIST.is_file(), reason="Debian's package dataset-fashion-mnist is not installed"
            ),
        ),
    ],
)
def test_what_is_said_of_a_data_set_is_true(name: str) -> None:
    data = load(name)
    source = instantiate(data.source)
    shape = (data.num_samples, data.channels, *data.image_size)
    assert source.pool_images.shape == shape
    assert source.test_images.shape[1:] == shape[1:]
    assert len(source.class_names) == data.num_classes
    assert set(source.hidden_labels.tolist()) == set(range(data.num_classes))
    pixels = source.pool_images.double() / 255
    spread = pixels.std((0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(data.mean).double(), pixels.mean((0, 2, 3)), rtol=0, atol=6e-5)
    torch.testing.assert_close(torch.tensor(data.std).double(), spread, rtol=0, atol=6e-5)


def test_digits_of_another_size_follow_one_key() -> None:
    data = load("digits")
    data.image_size = [8, 8]
    assert instantiate(data.source).pool_images.shape == (1297, 1, 8, 8)
