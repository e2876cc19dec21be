"""What is trained: the package's own configurations, on random images of the right sizes, nothing to download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from hydra import compose, initialize_config_dir

from assl_lightning.config.build import Parts, make_parts
from assl_lightning.config.compose import conf_dir, validate
from assl_lightning.config.prepare import prepare
from assl_lightning.config.schema import Config
from assl_lightning.data.sources.base import PoolSource


@dataclass(frozen=True)
class Setup:
    """A configuration, and how many steps make one repeat on a CPU and on a GPU."""

    name: str
    overrides: Sequence[str]
    steps: Mapping[str, int] = field(default_factory=lambda: {"cpu": 1, "cuda": 100})
    target: Mapping[str, float] = field(default_factory=dict)
    """Device → what the whole step may take, as a multiple of its floor."""


def _random_images(num_samples: int) -> list[str]:
    return [
        "data.source._target_=benchmarks.setups.random_images",
        "~data.source.root",
        "~data.source.download",
        "+data.source.num_classes=${data.num_classes}",
        f"+data.source.num_samples={num_samples}",
        "+data.source.shape=[${data.channels},${data.image_size.0},${data.image_size.1}]",
    ]


_CIFAR10 = ["data=cifar10", "algorithm=fixmatch", *_random_images(50_000)]
_LARGE = {"cpu": 1.05, "cuda": 1.25}

SETUPS = (
    Setup("ResNet-18, 32 px, 64 + 448 + 448", [*_CIFAR10, "network=resnet18"], target=_LARGE),
    Setup("WRN-28-2, 32 px, 64 + 448 + 448", [*_CIFAR10, "network=wide_resnet"], target=_LARGE),
    Setup("ViT-small, 32 px, 64 + 448 + 448", [*_CIFAR10, "network=vit_small"], target=_LARGE),
    Setup("small_cnn, digits, 32 + 160 + 160", [], {"cpu": 100, "cuda": 200}, {"cpu": 1.5}),
    Setup(
        "small_cnn, Fashion-MNIST, 32 + 128 + 128",
        ["+experiment=fashion_mnist", *_random_images(60_000)],
        {"cpu": 50, "cuda": 200},
        {"cpu": 1.5},
    ),
)
TINY = (Setup("small_cnn, digits, 4 + 8 + 8", ["algorithm.batch_size=4", "algorithm.mu=2"], {"cpu": 2, "cuda": 2}),)


def random_images(num_classes: int, num_samples: int, shape: Sequence[int]) -> PoolSource:
    """A pool of `num_samples` random images of `shape` (channels, height, width) with random labels; 256 for tests."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)

    return PoolSource(
        pool_images=images(num_samples),
        hidden_labels=torch.randint(0, num_classes, (num_samples,), generator=generator),
        test_images=images(256),
        test_labels=torch.randint(0, num_classes, (256,), generator=generator),
        class_names=tuple(map(str, range(num_classes))),
        sample_ids=tuple(map(str, range(num_samples))),
    )


def configured(overrides: Sequence[str]) -> tuple[Config, Parts]:
    """The configuration and what it builds, as the command line has them."""
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        config = validate(compose("config", overrides=list(overrides)))
    prepared = prepare(config)
    return prepared.config, make_parts(prepared.config, prepared.source)
