from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from assl_lightning.config.schema import Config
from assl_lightning.loop.records import RoundRecord, write_record
from assl_lightning.report.analysis.grouping import group, init_pairs
from assl_lightning.report.analysis.runs import Setting, accuracies, find_runs, shared_seeds

Write = Callable[..., Path]

RESNET = {"_target_": "assl_lightning.networks.ResNet18", "num_classes": 10, "stem": "imagenet"}

BASE: dict[str, Any] = {
    "name": "digits",
    "seed": 0,
    "run_dir": "",
    "rounds": 1,
    "initial_labels": 10,
    "labels_per_round": 5,
    "init": "rand",
    "score": {"alpha": 0.8, "c_u": 0.5},
    "data": {"name": "digits", "num_classes": 10, "root": "data", "source": {"root": "data", "download": True}},
    "network": RESNET,
    "algorithm": {"name": "fixmatch", "mu": 7, "module": {"_target_": "a.FixMatch", "optimizer": {"lr": 0.03}}},
    "acquisition": {"name": "assl", "strategy": {"_target_": "a.ASSL", "c_u": 0.5}},
    "trainer": {"devices": 1, "log_every_n_steps": 50, "logger": {"_target_": "a.CSVLogger", "name": ""}},
    "oracle": {"_target_": "a.Noisy", "seed": 0},
}

RANDOM = {"acquisition": {"name": "random", "among": [], "strategy": {"_target_": "a.Random"}}}
SUPERVISED = {"algorithm": {"name": "supervised", "mu": 0, "module": {"_target_": "a.Supervised"}}}
CIFAR = {"data": {"name": "cifar10", "num_classes": 10, "root": "data", "source": {"root": "data"}}}
VIT = {"network": {"_target_": "assl_lightning.networks.ViTSmall", "num_classes": 10}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a run directory: `BASE` with whole groups or dotted keys replaced, and its rounds' accuracies."""

    def write_run(
        directory: str,
        seed: int = 0,
        *changes: dict[str, Any],
        accuracy: Sequence[float] = (0.5, 0.6),
        labels: Sequence[int] = (10, 15, 20),
    ) -> Path:
        run_dir = tmp_path / directory
        config = copy.deepcopy(BASE) | {"seed": seed, "run_dir": str(run_dir)}
        config["oracle"]["seed"] = seed
        for key, value in (item for change in changes for item in change.items()):
            *groups, last = key.split(".")
            node = config
            for name in groups:
                node = node[name]
            node[last] = value
        run_dir.mkdir(parents=True)
        OmegaConf.save(
            OmegaConf.create(config | {"environment": {"git_commit": f"of {directory}"}}), run_dir / "config.yaml"
        )
        for number, value in enumerate(accuracy):
            write_record(
                run_dir,
                RoundRecord(
                    round=number,
                    labels=labels[number],
                    unlabelled=90,
                    steps=600,
                    test_accuracy_ema=value,
                    test_accuracy_raw=value / 2,
                ),
            )
        return run_dir

    return write_run


def grouped(tmp_path: Path) -> dict[str, dict[str, list[int]]]:
    """Setting → method → seeds."""
    settings = group(find_runs([tmp_path]), by_setting=True)
    return {one.name: {name: list(method.runs) for name, method in one.methods.items()} for one in settings}


def method_names(tmp_path: Path) -> set[str]:
    (setting,) = group(find_runs([tmp_path]))
    assert all(name == method.name for name, method in setting.methods.items())
    return set(setting.methods)


# --- finding ---------------------------------------------------------------------------------------------------------


def test_runs_are_found_at_and_below_each_path_once(write: Write, tmp_path: Path) -> None:
    directories = [write("b/seed_1", 1), write("b/seed_0", 0), write("a/deep/seed_0", 0, RANDOM)]
    runs = find_runs([directories[0], tmp_path / "b", tmp_path / "a", tmp_path])
    assert [run.directory for run in runs] == directories


def test_a_directory_without_a_complete_round_is_no_run(write: Write, tmp_path: Path) -> None:
    write("a/seed_0")
    write("a/seed_1", 1, accuracy=[])
    (write("a/seed_2", 2, accuracy=[]) / "rounds.jsonl").touch()
    assert [run.seed for run in find_runs([tmp_path])] == [0]
    with pytest.raises(
        ValueError,
        match=r"a/seed_1 holds no run; .* config\.yaml and at least one round that is trained; .*seed_1 has begun",
    ):
        find_runs([tmp_path, tmp_path / "a" / "seed_1"])
    with pytest.raises(ValueError, match=r"nowhere does not exist; give a run's directory"):
        find_runs([tmp_path / "nowhere"])


def test_a_run_is_what_its_files_say(write: Write) -> None:
    directory = write("run", 3)
    (run,) = find_runs([directory])
    assert (run.seed, run.total_steps) == (3, 1200)
    assert run.environment == {"git_commit": "of run"}
    assert [record.test_accuracy_ema for record in run.records] == [0.5, 0.6]
    assert run.config["algorithm"]["module"]["optimizer"] == {"lr": 0.03}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\nrounds: many\n", r"config\.yaml is not the configuration of a run: data, network, .*rounds"),
        ("- 1\n", r"config\.yaml is not the configuration of a run"),
        ("a: [1\n", r"config\.yaml cannot be read \(.*\); restore it, or leave it out"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(write: Write, text: str, message: str) -> None:
    directory = write("run")
    (directory / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        find_runs([directory])
    assert "\n" not in str(raised.value)


# --- methods ---------------------------------------------------------------------------------------------------------


def test_seeds_of_one_configuration_are_one_method(write: Write, tmp_path: Path) -> None:
    for seed in (10, 2):
        write(f"seed_{seed}", seed, {"name": f"of {seed}", "data.root": f"/disk{seed}", "data.source.root": f"/{seed}"})
    write("seed_3", 3, {"trainer.logger": False, "trainer.log_every_n_steps": 5, "data.source.download": False})
    (setting,) = group(find_runs([tmp_path]))
    assert setting.name == "digits resnet18"
    assert setting.labels == (10, 15)
    assert list(setting.methods["assl"].runs) == [2, 3, 10]
    assert setting.methods["assl"].runs[10].directory == tmp_path / "seed_10"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ([{}], {"assl"}),
        ([{}, RANDOM], {"assl", "random"}),
        ([{}, {"init": "continue"}], {"assl, init=rand", "assl, init=continue"}),
        ([{}, RANDOM, {"init": "continue"}], {"assl", "random", "assl, init=continue"}),
        ([RANDOM, {"init": "continue"}], {"random, init=rand", "assl, init=continue"}),
        ([{}, RANDOM, {"score.alpha": 0.5}], {"assl", "random", "assl, score.alpha=0.5"}),
        ([{}, RANDOM, RANDOM | SUPERVISED], {"assl", "random", "random, algorithm=supervised"}),
        # what was interpolated is told once
        (
            [{}, RANDOM, {"score.c_u": 0, "acquisition.strategy.c_u": 0}],
            {"assl", "random", "assl, score.c_u=0"},
        ),
        # but not what only looks like it
        (
            [{}, {"acquisition.strategy.c_u": 0}, {"acquisition.strategy.c_u": 1}],
            {f"assl, acquisition.strategy.c_u={value}" for value in (0.5, 0, 1)},
        ),
        # keys of a group are compared among those of its name
        (
            [RANDOM, RANDOM | {"acquisition.among": ["logits"]}, {}],
            {'random, acquisition.among=["logits"]', "random, acquisition.among=[]", "assl"},
        ),
        (
            [
                {},
                SUPERVISED,
                SUPERVISED | {"algorithm": SUPERVISED["algorithm"] | {"mu": 1}},
                {"algorithm": SUPERVISED["algorithm"] | {"max": None}},
            ],
            {"assl, algorithm=fixmatch", "assl", "assl, algorithm.mu=1", "assl, algorithm.max=null"},
        ),
        ([{"steps": None}, {}, {"steps": 1}], {"assl, steps=null", "assl, no steps", "assl, steps=1"}),
        ([{"oracle.noise": True}, {"oracle.noise": False}], {"assl, oracle.noise=true", "assl, oracle.noise=false"}),
    ],
)
def test_a_method_is_named_by_what_tells_it_from_the_others(
    write: Write, tmp_path: Path, changes: list[dict[str, Any]], names: set[str]
) -> None:
    for number, change in enumerate(changes):
        for seed in (0, 1):
            write(f"{number}/seed_{seed}", seed, change)
    assert method_names(tmp_path) == names


def test_keys_that_configurations_had_once_tell_no_methods_apart(write: Write, tmp_path: Path) -> None:
    write("run/seed_0", 0, {"acquisition.requires": ["statistics"], "algorithm.produces": ["statistics"]})
    write("run/seed_1", 1)
    assert [list(methods.values()) for methods in grouped(tmp_path).values()] == [[[0, 1]]]


def test_one_seed_twice_names_both_directories(write: Write, tmp_path: Path) -> None:
    write("a/seed_0")
    write("copy/seed_0")
    with pytest.raises(
        ValueError, match=r"a/seed_0 and .*copy/seed_0 are both runs of assl with seed 0; leave one of them"
    ):
        group(find_runs([tmp_path]))


@pytest.mark.parametrize("rounds", [1, 2])  # one that has not ended, and one that was extended
def test_runs_with_more_rounds_than_all_have_are_cut_to_these(write: Write, tmp_path: Path, rounds: int) -> None:
    longer = write("a/seed_0", 0, {"rounds": rounds}, accuracy=[0.5, 0.6, 0.7])
    asked = RoundRecord(
        1, 15, 90, 600, 0.6, 0.3, queried=[4], queried_labels=[1], seconds={"train": 1.0, "acquire": 1.0}
    )
    write_record(longer, asked)
    write_record(longer, RoundRecord(2, 20, 90, 600, 0.7, 0.35))
    write("a/seed_1", 1)
    write("b/seed_0", 0, RANDOM)
    (setting,) = group(find_runs([tmp_path]))
    assert (setting.labels, setting.is_cut) == ((10, 15), True)
    assert {name: list(method.runs) for name, method in setting.methods.items()} == {"assl": [0, 1], "random": [0]}
    run = setting.methods["assl"].runs[0]
    assert accuracies(setting.methods["assl"], [0]).tolist() == [[0.5, 0.6]]
    assert run.records[-1] == replace(asked, queried=[], queried_labels=[], seconds={"train": 1.0})
    assert [len(one.all_records) for one in setting.runs] == [3, 2, 2]
    assert run.all_records[1] == asked
    assert run.is_complete == (rounds == 2 or len(run.all_records) > rounds)


def test_runs_with_as_many_rounds_are_not_cut(write: Write, tmp_path: Path) -> None:
    write("a/seed_0")
    write("b/seed_0", 0, RANDOM, {"rounds": 3})  # told to have more, and not there yet
    (setting,) = group(find_runs([tmp_path]))
    assert not setting.is_cut
    assert [run.is_complete for run in setting.runs] == [True, False]


def test_one_seed_for_two_numbers_of_rounds_is_of_two_settings(write: Write, tmp_path: Path) -> None:
    directories = write("short/seed_0"), write("long/seed_0", 0, {"rounds": 2}, accuracy=[0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match=r"\(rounds=2\) and .* \(rounds=1\) are runs of two settings"):
        group(find_runs([tmp_path]))
    settings = group(find_runs([*directories]), by_setting=True)
    assert [setting.name for setting in settings] == ["digits resnet18, rounds=1", "digits resnet18, rounds=2"]
    assert not any(setting.is_cut for setting in settings)


def test_runs_with_other_numbers_of_labels_are_named(write: Write, tmp_path: Path) -> None:
    write("a/seed_0")
    write("b/seed_0", 0, RANDOM, labels=[10, 14])
    with pytest.raises(
        ValueError, match=r"a/seed_0 has \(10, 15\) and .*b/seed_0 has \(10, 14\); leave one of them out"
    ):
        group(find_runs([tmp_path]))


def test_a_run_that_waits_for_labels_shows_what_it_has_trained(write: Write, tmp_path: Path) -> None:
    run_dir = write("a/seed_0", accuracy=[0.5])
    newest = RoundRecord(1, 15, 85, 600, 0.7, 0.35, queried=[3])
    write_record(run_dir, RoundRecord(0, 10, 90, 600, 0.5, 0.25, queried=[4]))
    write_waiting(run_dir, newest)
    write_waiting(write("a/seed_1", 1, accuracy=[]), replace(newest, round=0, labels=10))
    first, second = find_runs([tmp_path])
    assert [record.test_accuracy_ema for record in first.records] == [0.5, 0.7]
    assert [record.test_accuracy_ema for record in second.records] == [0.7]


def write_waiting(run_dir: Path, record: RoundRecord) -> None:
    directory = run_dir / f"round_{record.round:02d}"
    directory.mkdir()
    (directory / "state.json").write_text(json.dumps({"state": "waiting", "record": asdict(record)}))


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "first", "other"),
    [
        (CIFAR, "data=digits", "data=cifar10"),
        (VIT, "network=resnet18", "network=vitsmall"),
        ({"network.stem": "cifar"}, "network.stem=imagenet", "network.stem=cifar"),
        ({"data.num_classes": 5, "network.num_classes": 5}, "data.num_classes=10", "data.num_classes=5"),
        ({"rounds": 2, "initial_labels": 20}, "initial_labels=10, rounds=1", "initial_labels=20, rounds=2"),
        ({"labels_per_round": 6}, "labels_per_round=5", "labels_per_round=6"),
    ],
)
def test_what_cannot_be_compared_is_named(
    write: Write, tmp_path: Path, change: dict[str, Any], first: str, other: str
) -> None:
    directories = write("a/seed_0"), write("b/seed_0", 0, RANDOM, change)
    with pytest.raises(ValueError, match="--settings to have the settings side by side") as raised:
        group(find_runs([tmp_path]))
    assert f"{directories[0]} ({first}) and {directories[1]} ({other}) are runs of two settings" in str(raised.value)
    assert len(group(find_runs([tmp_path]), by_setting=True)) == 2


def test_settings_are_named_by_what_differs(write: Write, tmp_path: Path) -> None:
    for seed in (0, 1):
        for init in ("rand", "continue"):
            for method, acquisition in (("assl", {}), ("random", RANDOM)):
                write(f"digits_{init}/{method}/{seed}", seed, acquisition, {"init": init})
                small = VIT | CIFAR | {"algorithm.module.optimizer": {"lr": 0.01}, "init": init}
                write(f"cifar_{init}/{method}/{seed}", seed, acquisition, small)
    methods = {"assl": [0, 1], "random": [0, 1]}
    assert grouped(tmp_path) == {
        "digits resnet18, init=rand": methods,
        "digits resnet18, init=continue": methods,
        "cifar10 vitsmall, init=rand": methods,
        "cifar10 vitsmall, init=continue": methods,
    }


def test_settings_that_differ_in_init_alone_are_paired(write: Write, tmp_path: Path) -> None:
    for number, changes in enumerate([{"init": "continue"}, {"init": "rand"}, {"init": "other"}]):
        write(f"{number}/seed_0", 0, changes)
    write("alone/seed_0", 0, CIFAR)
    write("another/seed_0", 0, CIFAR, {"init": "continue"}, accuracy=[0.5])
    pairs = init_pairs(group(find_runs([tmp_path]), by_setting=True))
    assert [[setting.name for setting in pair] for pair in pairs] == [
        ["digits resnet18, init=rand", "digits resnet18, init=continue"]
    ]


def test_one_name_is_one_method_in_all_settings(write: Write, tmp_path: Path) -> None:
    ablation = {"score.alpha": 0.5}
    write("digits/assl", 0)
    write("digits/random", 0, RANDOM)
    write("digits/ablation", 0, ablation)
    write("cifar/ablation", 0, CIFAR, ablation, accuracy=[0.1])
    assert grouped(tmp_path) == {
        "digits resnet18": {"assl, score.alpha=0.8": [0], "random, score.alpha=0.8": [0], "assl, score.alpha=0.5": [0]},
        "cifar10 resnet18": {"assl, score.alpha=0.5": [0]},
    }


def test_real_configurations_are_named_as_their_groups(tmp_path: Path, compose_run: Callable[..., Config]) -> None:
    runs = [
        ("assl", "score.c_u=1"),
        ("assl", "score.c_u=0.5"),
        ("assl_div", "score.c_u=0.5"),
        ("random", "score.c_u=0.5"),
        ("random", "algorithm=supervised"),
    ]
    for number, (acquisition, change) in enumerate(runs):
        directory = tmp_path / str(number)
        config = compose_run(f"acquisition={acquisition}", change, f"seed={number}", f"run_dir={directory}")
        directory.mkdir()
        OmegaConf.save(OmegaConf.create(config.as_dict()), directory / "config.yaml")
        write_record(directory, RoundRecord(0, 10, 1287, 600, 0.5, 0.5))
    (setting,) = group(find_runs([tmp_path]))
    assert setting.name == "digits smallcnn"
    assert list(setting.methods) == [
        "assl, score.c_u=1.0",
        "assl",
        "assl_div",
        "random",
        "random, algorithm=supervised",
    ]


# --- accuracies ------------------------------------------------------------------------------------------------------


@pytest.fixture
def setting(write: Write, tmp_path: Path) -> Setting:
    for seed in (4, 0, 2):
        write(f"assl/{seed}", seed, accuracy=[0.1 * seed, 0.2 * seed])
    for seed in (1, 2, 4):
        write(f"random/{seed}", seed, RANDOM)
    (found,) = group(find_runs([tmp_path]))
    return found


def test_accuracies_are_seeds_by_rounds_in_the_order_of_the_seeds(setting: Setting) -> None:
    assl = setting.methods["assl"]
    np.testing.assert_allclose(accuracies(assl, [4, 2]), [[0.4, 0.8], [0.2, 0.4]])
    np.testing.assert_allclose(accuracies(assl, [4, 2], "raw"), [[0.2, 0.4], [0.1, 0.2]])
    assert accuracies(assl, []).shape == (0, 2)


def test_balanced_accuracies_are_the_mean_over_classes_and_missing_ones_name_the_run(
    write: Write, tmp_path: Path
) -> None:
    records = [write(f"assl/{seed}", seed, accuracy=[0.1, 0.2]) / "rounds.jsonl" for seed in (0, 1)]
    (found,) = group(find_runs([tmp_path]))
    with pytest.raises(ValueError, match=r"assl/0 has no balanced accuracies, as runs of older versions"):
        accuracies(found.methods["assl"], [0, 1], "balanced")

    for path in records:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        balanced = [line | {"test_balanced_accuracy_ema": 0.5 - 0.1 * line["round"]} for line in lines]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in balanced))
    (found,) = group(find_runs([tmp_path]))
    np.testing.assert_allclose(accuracies(found.methods["assl"], [0, 1], "balanced"), [[0.5, 0.4]] * 2)


def test_runs_of_a_name_are_a_setting_called_by_it_whatever_else_differs(write: Write, tmp_path: Path) -> None:
    for name, noise in (("right", 0.0), ("wrong", 0.2)):
        for method in ("assl", "random"):
            write(f"{name}/{method}", 0, {"name": name, "acquisition.name": method, "oracle.noise": noise})
    paths = find_runs([tmp_path])

    assert [[*setting.methods] for setting in group(paths, by_name=True)] == [["assl", "random"]] * 2
    assert [setting.name for setting in group(paths, by_name=True)] == ["right", "wrong"]
    assert len(group(paths)[0].methods) == 4


def test_the_name_of_a_warm_up_stands_for_its_keys(write: Write, tmp_path: Path) -> None:
    warm_up = {"_target_": "a.SimCLR", "steps": 400, "optimizer": {"lr": 0.003}}
    write("older", 0)
    write("none", 1, {"warm_up": None})
    write("cold", 2, RANDOM, {"warm_up": None})
    write("warm", 0, {"warm_up": warm_up})
    write("longer", 0, {"warm_up": warm_up | {"steps": 800}})

    methods = group(find_runs([tmp_path]))[0].methods

    assert {name: len(method.runs) for name, method in methods.items()} == {
        "random, warm_up=none": 1,
        "assl, warm_up=simclr, warm_up.steps=800": 1,
        "assl, warm_up=none": 2,
        "assl, warm_up=simclr, warm_up.steps=400": 1,
    }


def test_two_settings_under_one_name_are_refused(write: Write, tmp_path: Path) -> None:
    write("one", 0, {"name": "same", "data.name": "digits"})
    write("other", 1, {"name": "same", "data.name": "letters"})
    with pytest.raises(ValueError, match="are runs of two settings"):
        group(find_runs([tmp_path]), by_name=True)


def test_shared_seeds_are_those_that_all_have(setting: Setting) -> None:
    assl, random = setting.methods["assl"], setting.methods["random"]
    assert shared_seeds(assl, random) == (2, 4)
    assert shared_seeds(assl) == (0, 2, 4)


def test_a_seed_or_weights_that_a_method_lacks_are_named(setting: Setting) -> None:
    assl = setting.methods["assl"]
    with pytest.raises(ValueError, match=r"assl has no run with seed 1; it has 0, 2, 4\. Use shared_seeds"):
        accuracies(assl, [0, 1])
    with pytest.raises(ValueError, match=r"which='best': must be 'ema', the averaged weights, 'raw', the"):
        accuracies(assl, [0], "best")  # type: ignore[arg-type]


def test_a_seed_that_follows_the_runs_tells_no_method_and_one_that_is_fixed_does(write: Write) -> None:
    following = [write(f"following/{seed}", seed, {"acquisition.strategy.seed": seed}) for seed in (0, 1, 2)]
    fixed = [write(f"fixed/{seed}", seed, {"acquisition.strategy.seed": 7}) for seed in (0, 1)]
    (setting,) = group(find_runs([*following, *fixed]))
    assert {name: sorted(method.runs) for name, method in setting.methods.items()} == {
        "assl, acquisition.strategy.seed=${seed}": [0, 1, 2],
        "assl, acquisition.strategy.seed=7": [0, 1],
    }


def test_runs_that_lack_a_key_that_others_have_are_not_lost(write: Write) -> None:
    directories = [write(f"plain/{seed}", seed) for seed in (0, 1)]
    directories += [write(f"other/{seed}", seed, {"oracle": {"_target_": "a.Noisy"}}) for seed in (2, 3)]
    directories[:2] = [write(f"classes/{seed}", seed, {"oracle.num_classes": 10}) for seed in (4, 5)]
    (setting,) = group(find_runs(directories))
    assert sorted(seed for method in setting.methods.values() for seed in method.runs) == [2, 3, 4, 5]
    assert len(setting.methods) == 2


def test_rounds_without_a_configuration_are_not_left_out_in_silence(write: Write) -> None:
    kept, broken = write("all/kept"), write("all/broken", 1)
    (broken / "config.yaml").unlink()
    with pytest.raises(
        ValueError, match=r"broken has rounds but no config\.yaml; restore it, or leave the directory out"
    ):
        find_runs([kept.parent])


def test_a_run_of_an_earlier_version_with_settings_at_the_top_is_of_the_same_method(write: Write) -> None:
    """They stood there beside the same values in their groups or, of a run from Python, alone."""
    now, other = (
        {"acquisition.features": features, "algorithm.weight_ema": 0.9} for features in ("inference", "training")
    )
    earlier = {**now, "acquisition_features": "inference", "weight_ema": 0.9}
    from_python = {"acquisition_features": "inference", "weight_ema": 0.9}
    changes = [now, earlier, from_python, other]
    (setting,) = group(find_runs([write(str(seed), seed, change) for seed, change in enumerate(changes)]))
    assert {name: list(method.runs) for name, method in setting.methods.items()} == {
        "assl, acquisition.features=inference": [0, 1, 2],
        "assl, acquisition.features=training": [3],
    }
