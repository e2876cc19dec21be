"""Every YAML file: it composes, it is valid, and what it declares is what its class does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from assl_lightning.base.differences import differences
from assl_lightning.commands import messages, running
from assl_lightning.commands.train import main
from assl_lightning.config import prepare
from assl_lightning.config.compose import conf_dir
from assl_lightning.config.instantiate import check_arguments, nodes
from assl_lightning.config.schema import Config
from assl_lightning.loop.records import RoundRecord

Compose = Callable[..., Config]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def contents(group: str, option: str) -> dict[str, Any]:
    """Return what one file says, without its defaults."""
    plain: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))
    return dict(plain)


ADDED = ("experiment", "variant")
GROUPS = (
    "acquisition",
    "algorithm",
    "data",
    *ADDED,
    "network",
    "oracle",
    "stop",
    "trainer",
    "trainer/logger",
    "warm_up",
)
CHOICES = [f"{'+' if group in ADDED else ''}{group}={option}" for group in GROUPS for option in options(group)]

BESIDE = {
    # what a choice cannot be without
    "network=torchvision": ["data=cifar10"],
    "data=folder": ["data.root=pool", "data.source.test_root=test", "data.num_classes=2"],
    "data=image_folder": ["data.root=pool", "data.num_classes=2"],
    "data=manifest": ["data.source.manifest=images.csv", "data.num_classes=2"],
    "data=torchvision": ["data.source.dataset=STL10", "data.num_classes=10"],
    "data=huggingface": ["data.source.path=saved", "data.num_classes=2"],
    "data=dataset": ["data.source.pool={_target_: torchvision.datasets.FakeData}", "data.num_classes=2"],
}


def test_the_groups_are_those_of_the_directories() -> None:
    groups = {path.parent.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*/*.yaml")}

    assert groups == set(GROUPS)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_option_composes_validates_and_names_classes_that_take_its_arguments(
    compose_run: Compose, choice: str
) -> None:
    config = compose_run(choice, *BESIDE.get(choice, []))

    assert config.run_dir == f"runs/{config.name}/seed_0"
    assert [line for key, node in nodes(config) for line in check_arguments(key, node)] == []
    group, _, option = choice.partition("=")
    if group in ("acquisition", "algorithm"):
        assert getattr(config, group).name == option, "it is called as its file"


SETTINGS = {
    # data, labels at first and per round, learning rate of FixMatch: Lim et al. 2023, §4
    "cifar10_resnet18": ("cifar10", 100, 0.03),
    "svhn_resnet18": ("svhn", 100, 0.03),
    "cifar100_resnet18": ("cifar100", 1000, 0.03),
    "mini_imagenet_resnet18": ("mini_imagenet", 1000, 0.03),
    "cifar10_vit": ("cifar10", 100, 0.01),
    "svhn_vit": ("svhn", 100, 0.01),
}

NETWORKS = {"resnet18": "ResNet18", "vit": "ViTSmall"}


@pytest.mark.parametrize("init", ["rand", "continue"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_twelve_settings_are_those_of_the_paper(compose_run: Compose, setting: str, init: str) -> None:
    """Lim et al. 2023, §4, as transcribed in the table of constants: nothing here is read from another YAML file."""
    variant = [] if init == "rand" else [f"+variant={init}"]
    name = "_".join([setting, *(["continue"] if variant else [])])
    config = compose_run(f"+experiment={setting}", *variant)
    data, labels, learning_rate = SETTINGS[setting]

    assert (config.name, config.settings.init, config.data.name) == (name, init, data)
    assert config.network["_target_"].endswith(f".{NETWORKS[setting.rpartition('_')[2]]}")
    settings = config.settings
    assert (settings.initial_labels, settings.labels_per_round, settings.rounds) == (labels, labels, 10)
    assert (settings.steps_per_round, settings.steps_per_epoch, settings.weight_ema) == (5 * 1024, 1024, 0.999)
    assert (settings.score.alpha, settings.score.c_u, settings.score.c_i) == (0.8, 0.5, 2.0)
    assert (config.algorithm.name, config.algorithm.batch_size, config.algorithm.mu) == ("fixmatch", 64, 7)
    assert config.algorithm.module["threshold"] == 0.95
    assert config.algorithm.module["optimizer"]["lr"] == learning_rate


@pytest.mark.parametrize("experiment", [*SETTINGS, "digits_short"])
def test_a_continued_experiment_differs_from_its_own_only_in_where_each_round_starts(
    compose_run: Compose, experiment: str
) -> None:
    rand = compose_run(f"+experiment={experiment}").as_dict()
    con = compose_run(f"+experiment={experiment}", "+variant=continue").as_dict()

    assert list(differences(rand, con, ignore=("name", "run_dir"))) == ["init was 'rand', now 'continue'"]


def test_every_experiment_has_a_name_of_its_own_in_every_variant() -> None:
    names = {experiment: contents("experiment", experiment).get("name") for experiment in options("experiment")}
    suffixes = [str(contents("variant", variant)["_suffix"]) for variant in options("variant")]

    assert names.pop("digits_supervised") is None, "data.name and the variant that it includes make its name"
    assert names == {experiment: f"{experiment}${{_suffix}}" for experiment in names}
    assert len({f"{name}{suffix}" for name in names for suffix in ["", *suffixes]}) == len(names) * (1 + len(suffixes))


@pytest.mark.parametrize("variant", options("variant"))
def test_a_variant_changes_its_experiment_in_whichever_order_they_are_typed(compose_run: Compose, variant: str) -> None:
    typed = ["+experiment=cifar100_resnet18", f"+variant={variant}"]

    assert compose_run(*reversed(typed)) == compose_run(*typed)


@pytest.mark.parametrize("setting", SETTINGS)
def test_without_unlabelled_images_a_setting_is_trained_as_alfa_mix_trains(compose_run: Compose, setting: str) -> None:
    """Table 2's first column: Adam at 1e-3, no augmentation, at most 1,000 passes, to 99 % train accuracy."""
    config, rand = compose_run(f"+experiment={setting}", "+variant=al"), compose_run(f"+experiment={setting}")
    algorithm, passes = config.algorithm, -(-11 * SETTINGS[setting][1] // 64)

    assert (config.data, config.network) == (rand.data, rand.network)
    for key in ("rounds", "initial_labels", "labels_per_round", "init"):
        assert getattr(config.settings, key) == getattr(rand.settings, key)
    assert (algorithm.name, algorithm.batch_size, algorithm.mu) == ("supervised", 64, 0)
    assert (algorithm.labelled_view, algorithm.labelled_stream, config.settings.weight_ema) == ("plain", "passes", None)
    assert (algorithm.max_passes, algorithm.module["stop_at_train_accuracy"]) == (1000, 0.99)
    assert config.settings.steps_per_round == 1000 * passes, "max_passes decides, in the last round too"
    assert algorithm.module["optimizer"]["_target_"] == "torch.optim.Adam"
    assert algorithm.module["optimizer"]["lr"] == 1e-3


FIGURES = {
    # figure: what is swept beside the seed, as the paper's captions and text have it
    "fig1": [(name, kind) for name in ("fixmatch", "supervised") for kind in ("random", "entropy", "pseudo_el2n")],
    "fig8": [(c_u, 2.0, "uncertainty") for c_u in (0.0, 0.5, 1.0, 2.0)],
    "fig9": [(0.5, c_i, "both") for c_i in (0.0, 0.5, 1.0, 2.0, 3.0)],
}


@pytest.mark.e2e
@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_sweeps_over_what_the_paper_varies(
    figure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configs: list[Config] = []

    def run(config: Config) -> list[RoundRecord]:
        configs.append(config)
        return []

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(messages, "set_up_messages", lambda: None)
    monkeypatch.setattr(prepare, "check", lambda config: None)
    monkeypatch.setattr(running, "run", run)

    assert main(["-m", f"+experiment={figure}", "seed=0"]) == 0
    if figure == "fig1":
        found: list[tuple[object, ...]] = [(config.algorithm.name, config.acquisition.name) for config in configs]
    else:
        scores = [config.settings.score for config in configs]
        factors = [config.acquisition.strategy["factors"] for config in configs]
        found = [(score.c_u, score.c_i, factor) for score, factor in zip(scores, factors, strict=True)]
    assert found == FIGURES[figure]
    assert len({config.run_dir for config in configs}) == len(configs)


def swept(experiment: str) -> Any:
    """Return what the experiment tells the sweeper to vary; None where it is no sweep."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="test"):
        hydra: Any = GlobalHydra.instance().hydra
        composed = hydra.compose_config("config", [f"+experiment={experiment}"], RunMode.RUN, from_shell=False)
    return composed.hydra.sweeper.params


def test_the_experiments_that_are_sweeps_have_the_papers_three_seeds_and_the_same_values_when_small() -> None:
    sweeps = {name: params for name in options("experiment") if (params := swept(name))}

    assert sorted(sweeps) == sorted(
        f"{name}{small}" for name in ("alpha", "fig1", "fig8", "fig9") for small in ("", "_small")
    )
    assert {params["seed"] for params in sweeps.values()} == {"0,1,2"}
    for name in ("alpha", "fig8", "fig9"):
        assert sweeps[f"{name}_small"] == sweeps[name]


def test_the_long_training_of_fig_7_is_tested_where_the_rounds_it_is_held_against_end(compose_run: Compose) -> None:
    long = compose_run("+experiment=fig7_fixmatch")
    rounds = compose_run("+experiment=cifar10_resnet18", "+variant=continue")

    settings, steps = long.settings, rounds.settings.steps_per_round
    assert (settings.rounds, settings.initial_labels, settings.steps_per_epoch) == (0, 100, steps)
    assert 0 <= settings.steps_per_round - 500_000 < steps
    assert (long.data, long.network, long.algorithm) == (rounds.data, rounds.network, rounds.algorithm)


def test_the_short_supervised_digits_differ_from_the_short_digits_only_in_how_they_learn(compose_run: Compose) -> None:
    learned, supervised = (
        compose_run("+experiment=digits_short", *variant) for variant in ([], ["+variant=supervised"])
    )
    found = list(differences(learned.as_dict(), supervised.as_dict(), ignore=("algorithm", "acquisition")))

    assert [line.partition(" ")[0] for line in found] == ["name", "run_dir"]
    for key in ("batch_size", "labelled_view", "labelled_stream", "max_passes"):
        assert getattr(learned.algorithm, key) == getattr(supervised.algorithm, key)
    assert learned.settings == supervised.settings
    assert supervised.algorithm.module["stop_at_train_accuracy"] is None


@pytest.mark.parametrize("path", sorted(conf_dir().rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_says_what_it_is_before_anything_else(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert lines[lines[0].startswith("# @package ")].startswith("# ")
