from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assl_lightning.config import build, prepare
from assl_lightning.config.instantiate import make_algorithm, make_network
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.trying import StepSizes, try_network, try_single_images, try_training
from assl_lightning.learning.algorithm import Algorithm

Compose = Callable[..., Config]
SUPERVISED = ["algorithm=supervised", "acquisition=random"]
RESNET = "network=resnet18"
LAST = "the last training, which has no unlabelled image left, "


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "begins"),
    [
        ([*SUPERVISED, RESNET, "initial_labels=1"], "initial_labels=1: must be at least 2, since the first training"),
        (
            [*SUPERVISED, RESNET, "algorithm.batch_size=1"],
            "algorithm.batch_size=1: must be at least 2, since training would give network ResNet18 one image a step",
        ),
        (
            [RESNET, "algorithm.batch_size=1", "rounds=1", "labels_per_round=1287"],
            f"algorithm.batch_size=1: must be at least 2, since {LAST}would give network ResNet18 one image a step",
        ),
    ],
)
def test_a_step_of_one_image_is_refused_at_its_key_before_anything_is_written(
    compose_run: Compose, working_directory: Path, overrides: list[str], begins: str
) -> None:
    config = compose_run(*overrides, "trainer.accelerator=cpu")

    with pytest.raises(ConfigurationError) as caught:
        prepare.check(config)

    (line,) = caught.value.lines
    assert line.startswith(begins)
    assert "its batch norm cannot be trained on that (Expected more than 1 value per channel" in line
    assert list(working_directory.iterdir()) == []


def test_a_last_training_without_unlabelled_images_is_found_once_the_data_are_read(compose_run: Compose) -> None:
    overrides = [RESNET, "algorithm.batch_size=1", "rounds=1", "labels_per_round=1287", "data.num_samples=null"]
    config = compose_run(*overrides, "trainer.accelerator=cpu")

    prepared = prepare.prepare(config)
    with pytest.raises(ConfigurationError) as caught:
        build.make_parts(prepared.config, prepared.source)

    assert caught.value.lines[0].startswith(f"algorithm.batch_size=1: must be at least 2, since {LAST}would give")


class Viewing(nn.Module):
    """A network that calls view on its maps, as many do."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.maps, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 16 * 16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maps(images)
        logits: Tensor = self.head(maps.view(len(maps), -1))
        return logits


def test_a_network_that_views_its_maps_is_refused_in_the_other_layout_and_told_which_to_choose(
    compose_run: Compose,
) -> None:
    given = ["network._target_=tests.config.test_trying.Viewing", "warm_up=none", "trainer.accelerator=cpu"]
    try_network(compose_run(*given))
    with pytest.raises(ConfigurationError) as caught:
        try_network(compose_run(*given, "trainer.memory_format=channels_last"))

    (line,) = caught.value.lines
    assert line.startswith("trainer.memory_format=channels_last: Viewing raises: view size is not compatible")
    assert line.endswith("; choose trainer.memory_format=contiguous, or call reshape instead of view in the network")


def test_an_error_of_view_that_no_layout_mends_stays_the_networks(compose_run: Compose) -> None:
    given = ["network._target_=tests.config.test_trying.Viewing", "warm_up=none", "trainer.accelerator=cpu"]
    config = compose_run(*given, "trainer.memory_format=contiguous")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Viewing, "forward", lambda self, images: images.transpose(2, 3).view(len(images), -1))
        with pytest.raises(ConfigurationError) as caught:
            try_network(config)

    (line,) = caught.value.lines
    assert line.startswith("network")
    assert "memory_format" not in line


class Blocked(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("no step has one image, so that nothing has to be tried")


def made(config: Config, network: nn.Module) -> Callable[[], Algorithm]:
    """Return a function that makes the configured algorithm around another network."""

    def make() -> Algorithm:
        algorithm = make_algorithm(config, make_network(config))
        algorithm.network = network  # type: ignore[assignment]
        return algorithm

    return make


SIZES = [  # overrides, sizes, whether a step has one image
    (["algorithm.batch_size=1"], StepSizes(1, 1, 5), False),  # unlabelled images stand beside it
    (["algorithm.batch_size=1"], StepSizes(1, 1, None), False),
    (["algorithm.batch_size=1"], StepSizes(1, 1, 0), True),
    (["algorithm.batch_size=1", "algorithm.include_labelled=true"], StepSizes(1, 1, 0), False),
    (["algorithm.batch_size=2"], StepSizes(1, 1, 0), False),  # the one labelled image twice
    (["algorithm.batch_size=2"], StepSizes(2, 1, 0), True),
    ([*SUPERVISED, "algorithm.batch_size=2"], StepSizes(1, 1, 5), True),
    ([*SUPERVISED, "algorithm.batch_size=2"], StepSizes(1, 2, 5), False),
    ([*SUPERVISED, "algorithm.batch_size=2"], StepSizes(1, 3, 5), False),  # a last batch of one is left out
    ([*SUPERVISED, "algorithm.batch_size=2"], StepSizes(1, None, 5), False),
    ([*SUPERVISED, "algorithm.batch_size=2", "algorithm.labelled_stream=tiled"], StepSizes(1, 1, 5), False),
    ([*SUPERVISED, "algorithm.batch_size=1"], StepSizes(1, None, None), True),
]


@pytest.mark.parametrize(("overrides", "sizes", "is_one"), SIZES)
def test_a_step_has_one_image_only_where_the_batches_of_the_run_have(
    compose_run: Compose, overrides: list[str], sizes: StepSizes, is_one: bool
) -> None:
    config, image = compose_run(*overrides), torch.zeros(1, 1, 4, 4)
    if is_one:
        with pytest.raises(ConfigurationError, match="one image a step"):
            try_single_images(config, sizes, made(config, nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16))), image)
        try_single_images(config, sizes, made(config, nn.BatchNorm2d(1)), image)  # 16 values for its channel
    else:
        try_single_images(config, sizes, made(config, Blocked()), image)


class Pair(nn.Module):
    """Logits and those of an auxiliary head while it is trained."""

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = images.flatten(1)
        return (logits, logits) if self.training else logits


def test_a_network_that_answers_otherwise_while_it_is_trained_is_refused() -> None:
    images = torch.zeros(2, 1, 2, 2)

    with pytest.raises(
        ValueError, match=re.escape("while it is trained, Pair must give logits of shape (2, 4); got a tuple")
    ):
        try_training(Pair(), images, 4)
    with pytest.raises(ValueError, match=re.escape("shape (2, 3); got (2, 4)")):
        try_training(nn.Flatten(), images, 3)


def test_a_network_with_auxiliary_heads_is_refused_at_its_key(compose_run: Compose) -> None:
    config = compose_run(
        *SUPERVISED,
        *("network._target_=torchvision.models.GoogLeNet", "~network.width", "~network.channels"),
        *("+network.init_weights=true", "data.channels=3", "data.image_size=[64,64]"),
        *("data.mean=null", "data.std=null"),
        "trainer.accelerator=cpu",
    )

    with pytest.raises(ConfigurationError) as caught:
        prepare.check(config)

    (line,) = caught.value.lines
    assert line.startswith("network: GoogLeNet without its last linear layer must give features of shape (B, 1024)")
