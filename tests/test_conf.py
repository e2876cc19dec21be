"""Every YAML file: it composes, it is valid, and what it declares is what its class does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate

from assl_lightning import build
from assl_lightning.cli import conf_dir
from assl_lightning.schema import Config

Compose = Callable[..., Config]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


CHOICES = [
    f"{'+' if group == 'experiment' else ''}{group}={option}"
    for group in ("acquisition", "algorithm", "data", "experiment", "network", "oracle", "trainer", "trainer/logger")
    for option in options(group)
]

BESIDE = {
    # what a choice cannot be without
    "algorithm=supervised": ["acquisition=random"],
    "network=torchvision": ["data=cifar10"],
}


def test_the_groups_are_those_of_the_directories() -> None:
    groups = {path.parent.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*/*.yaml")}

    assert groups == {choice.lstrip("+").partition("=")[0] for choice in CHOICES}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_option_composes_validates_and_names_classes_that_take_its_arguments(
    compose_run: Compose, choice: str
) -> None:
    config = compose_run(choice, *BESIDE.get(choice, []))

    assert config.run_dir == f"runs/{config.name}/seed_0"
    assert [line for key, node in build.nodes(config) for line in build.check_arguments(key, node)] == []


@pytest.mark.parametrize("acquisition", options("acquisition"))
def test_an_acquisition_declares_what_its_class_requires(compose_run: Compose, acquisition: str) -> None:
    declared = compose_run(f"acquisition={acquisition}").acquisition
    strategy = instantiate(declared.strategy)

    assert (declared.name, set(declared.requires)) == (acquisition, set(strategy.requires))


@pytest.mark.parametrize("algorithm", options("algorithm"))
def test_an_algorithm_declares_what_its_class_produces(compose_run: Compose, algorithm: str) -> None:
    config = compose_run(f"algorithm={algorithm}", "acquisition=random")
    module = build.make_algorithm(config, build.make_network(config))

    assert (config.algorithm.name, set(config.algorithm.produces)) == (algorithm, set(module.produces))


@pytest.mark.parametrize(
    ("experiment", "labels", "learning_rate"),
    [
        ("cifar10_resnet18", (100, 100), 0.03),
        ("cifar100_resnet18", (1000, 1000), 0.03),
        ("svhn_resnet18", (100, 100), 0.03),
        ("cifar10_vit", (100, 100), 0.01),
        ("svhn_vit", (100, 100), 0.01),
    ],
)
def test_the_experiments_have_the_papers_settings(
    compose_run: Compose, experiment: str, labels: tuple[int, int], learning_rate: float
) -> None:
    """Lim et al. 2023, §4, as transcribed in the table of constants: nothing here is read from another YAML file."""
    config = compose_run(f"+experiment={experiment}")

    assert config.name == experiment
    assert (config.initial_labels, config.labels_per_round) == labels
    assert (config.rounds, config.steps_per_round, config.steps_per_epoch) == (10, 5 * 1024, 1024)
    assert (config.score.alpha, config.score.c_u, config.score.c_i) == (0.8, 0.5, 2.0)
    assert (config.algorithm.batch_size, config.algorithm.mu, config.algorithm.weight_ema) == (64, 7, 0.999)
    assert config.algorithm.module["threshold"] == 0.95
    assert config.algorithm.module["optimizer"]["lr"] == learning_rate
    assert config.init == "rand"


@pytest.mark.parametrize("path", sorted(conf_dir().rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_is_in_its_first_lines(path: Path) -> None:
    assert path.read_text().startswith("#")
