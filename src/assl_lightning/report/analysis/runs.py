"""Run directories → settings → methods → seeds: what may be compared with what, and by which name.

A *method* is everything that a configuration says, but for the seed and for where and how the run was written down. A
*setting* is the task that methods are compared on: data, network, and how many labels when.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from assl_lightning.base.run_files import CONFIG, RECORDS, STATE, round_directory
from assl_lightning.loop.records import (
    KEYS_WITHOUT_EFFECT,
    PROVENANCE_KEYS,
    RoundRecord,
    read_config,
    trained_records,
    without_query,
)

Facts = dict[str, Any]
"""Dotted key → value of a configuration; `data`, `network`, … alone stand for the group's name."""

Item = TypeVar("Item")

_ABSENT = object()  # a value that no key has; None is one that a key may have

_GROUPS = ("data", "network", "algorithm", "acquisition")  # known by a name, which says more than their keys

WHERE_IMAGES_LIE = ("data.root", "data.source.root", "data.source.download")
"""Keys in which runs on the same images may differ."""

_NOT_COMPARED = (
    *("seed", "name", "rounds"),
    *PROVENANCE_KEYS,
    *KEYS_WITHOUT_EFFECT,
    *WHERE_IMAGES_LIE,
)

_SETTING = ("data", "network", "hold_out", "initial_labels", "labels_per_round")

_NEEDED: Mapping[str, type] = {
    **dict.fromkeys(_GROUPS, dict),
    **dict.fromkeys(("seed", "rounds", "initial_labels", "labels_per_round"), int),
}


@dataclass(frozen=True)
class Run:
    """One run directory as it lies on disk."""

    directory: Path
    config: Mapping[str, Any]  # config.yaml, plain
    records: tuple[RoundRecord, ...]  # of the rounds that are trained, in order; at least one
    uncut: tuple[RoundRecord, ...] = ()  # where `group` has cut the records to the rounds that all runs have, all

    @property
    def seed(self) -> int:
        """Which of a method's runs this is."""
        return int(self.config["seed"])

    @property
    def environment(self) -> Mapping[str, str]:
        """Versions, platform and git commit that the run began with; empty where they were not written."""
        return dict(self.config.get("environment") or {})

    @property
    def is_complete(self) -> bool:
        """Whether all trainings were done, one more than acquisitions."""
        return len(self.all_records) > int(self.config["rounds"])

    @property
    def all_records(self) -> tuple[RoundRecord, ...]:
        """The records of all its rounds, including those that other runs do not have."""
        return self.uncut or self.records

    def has_withdrawn(self, record: RoundRecord) -> bool:
        """True where the run was told to end after the round had asked for labels; its query is still in the files."""
        return not record.queried and (round_directory(self.directory, record.round) / STATE).exists()

    @property
    def total_steps(self) -> int:
        """Optimizer steps of these rounds."""
        return sum(record.steps for record in self.records)


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but the seed."""

    name: str
    runs: Mapping[int, Run]  # seed → run, by seed

    @property
    def config(self) -> Mapping[str, Any]:
        """That of its first run, which the others share but for the seed and for where they lie."""
        return next(iter(self.runs.values())).config


@dataclass(frozen=True)
class Setting:
    """Methods that were given the same task, in the order in which their runs were."""

    name: str
    methods: Mapping[str, Method]  # by name
    labels: tuple[int, ...]  # trained on in each of the rounds that all runs have

    @property
    def runs(self) -> Iterator[Run]:
        """The runs of all methods."""
        return (run for method in self.methods.values() for run in method.runs.values())

    @property
    def is_cut(self) -> bool:
        """True where some run has more rounds than the rounds that all runs have."""
        return any(run.uncut for run in self.runs)


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs at or below each path, each once: in the order of the paths, sorted below each.

    A run is a directory with config.yaml and at least one round that is trained, in rounds.jsonl or waiting for labels.

    Raises:
        ValueError: there is none at or below a path, or a file is not what its name says.
    """
    found: dict[Path, Run] = {}
    for path in paths:
        begun = [file.parent for file in sorted(path.rglob(CONFIG))]
        below = [run for directory in begun if _may_have_a_round(directory) and (run := _read_run(directory)).records]
        if not below:
            first = next((f"; {directory} has begun, and has none yet" for directory in begun), "")
            raise ValueError(
                f"{path} {'holds no run' if path.exists() else 'does not exist'}; give a run's directory (with "
                f"{CONFIG} and at least one round that is trained{first}), or one with such directories below it"
            )
        stray = next((file.parent for file in sorted(path.rglob(RECORDS)) if not (file.parent / CONFIG).exists()), None)
        if stray is not None:
            raise ValueError(f"{stray} has rounds but no {CONFIG}; restore it, or leave the directory out")
        for run in below:
            found.setdefault(run.directory.resolve(), run)
    return list(found.values())


def group(runs: Sequence[Run], *, by_setting: bool = False) -> list[Setting]:
    """The runs as methods over seeds, one `Setting`; with `by_setting`, as many as there are.

    A setting is the data (wherever they lie), the network and the numbers of labels; with `by_setting` also `init`,
    which the paper counts as two settings (§4), and which otherwise tells methods apart. Where some of its runs have
    more rounds than others, having been extended or not being finished, all are cut to those that each has. Only where
    one seed of a method was run twice, for two numbers of `rounds`, are these two settings.

    A method is named by its acquisition and by what else tells it from the others of its setting: a value is told by
    those that do not have the most common one, by all where none is most common. Where groups differ (`algorithm`),
    their names are told instead of their keys. One name means one method in all settings, where what differs between
    settings only, such as the learning rate that goes with a network, belongs to the setting.

    Raises:
        ValueError: the runs are of several settings and `by_setting` is False, a method has one seed twice, or runs of
            a setting have not as many labels in a round.
    """
    parts = [part for one in _partition(runs, lambda run: _setting_facts(run, by_setting)) for part in _by_rounds(*one)]
    if not by_setting and len(parts) > 1:
        raise ValueError(_not_one_setting(parts[0][1][0], parts[1][1][0]))
    settings = [facts for facts, _ in parts]
    setting_names = _names(settings, _telling_keys([settings]), ("data", "network"))
    partitions = [_partition(members, _facts) for _, members in parts]
    keys = _telling_keys([[facts for facts, _ in methods] for methods in partitions])
    method_names = iter(_names([facts for methods in partitions for facts, _ in methods], keys, ("acquisition",)))
    return [
        _setting(name, [_method(next(method_names), members) for _, members in methods])
        for name, methods in zip(setting_names, partitions, strict=True)
    ]


def init_pairs(settings: Sequence[Setting]) -> list[tuple[Setting, Setting]]:
    """Settings that differ in `init` alone, rand before continue, of those that `group` found `by_setting`."""
    parts = _partition(
        settings, lambda setting: _setting_facts(_a_run(setting), with_init=False) | {"labels": setting.labels}
    )
    by_init = [{_a_run(setting).config.get("init"): setting for setting in members} for _, members in parts]
    return [(found["rand"], found["continue"]) for found in by_init if {"rand", "continue"} <= found.keys()]


def shared_seeds(method: Method, *others: Method) -> tuple[int, ...]:
    """The seeds that all of the methods have, ascending: by these they are compared in pairs."""
    return tuple(sorted(set(method.runs).intersection(*(other.runs for other in others))))


def accuracies(method: Method, seeds: Sequence[int], which: Literal["ema", "raw"] = "ema") -> NDArray[np.float64]:
    """Test accuracies in [0, 1], (seeds, rounds), of the averaged (`ema`) or the raw weights; rows as in `seeds`."""
    if which not in ("ema", "raw"):
        raise ValueError(f"which={which!r}: must be 'ema', the averaged weights, or 'raw', the weights as trained")
    missing = [seed for seed in seeds if seed not in method.runs]
    if missing:
        raise ValueError(
            f"{method.name} has no run with seed {missing[0]}; it has {', '.join(map(str, method.runs))}. "
            f"Use shared_seeds to choose those that methods have in common"
        )
    runs = [method.runs[seed].records for seed in seeds]
    values = [[getattr(record, f"test_accuracy_{which}") for record in records] for records in runs]
    rounds = len(next(iter(method.runs.values())).records)
    return np.array(values, float).reshape(len(seeds), rounds)


# --- from files to runs ----------------------------------------------------------------------------------------------


def _may_have_a_round(directory: Path) -> bool:
    file = directory / RECORDS
    return (file.exists() and file.stat().st_size > 0) or (round_directory(directory, 0) / STATE).exists()


def _read_run(directory: Path) -> Run:
    config = read_config(directory)
    wrong = [key for key, kind in _NEEDED.items() if type(config.get(key)) is not kind]
    if wrong:
        raise ValueError(
            f"{directory / CONFIG} is not the configuration of a run: {', '.join(wrong)} must be there, groups as "
            f"groups and numbers as integers; restore it, or leave the directory out"
        )
    environment = config.get("environment") or {}
    if not isinstance(environment, dict) or not all(isinstance(value, str) for value in environment.values()):
        raise ValueError(
            f"{directory / CONFIG}: environment must map names to versions; restore it, or leave the directory out"
        )
    return Run(directory, config, tuple(trained_records(directory, config["rounds"])))


# --- from runs to settings -------------------------------------------------------------------------------------------


def _partition(items: Sequence[Item], facts_of: Callable[[Item], Facts]) -> list[tuple[Facts, list[Item]]]:
    """Items with equal facts, in order of the first of each; facts hold lists, so that no dictionary does this."""
    parts: list[tuple[Facts, list[Item]]] = []
    for item in items:
        facts = facts_of(item)
        members = next((members for known, members in parts if known == facts), None)
        if members is None:
            parts.append((facts, [item]))
        else:
            members.append(item)
    return parts


def _method(name: str, runs: Sequence[Run]) -> Method:
    by_seed: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        if run.seed in by_seed:
            raise ValueError(
                f"{by_seed[run.seed].directory} and {run.directory} are both runs of {name} with seed {run.seed}; "
                f"leave one of them out"
            )
        by_seed[run.seed] = run
    return Method(name, by_seed)


def _by_rounds(facts: Facts, runs: list[Run]) -> list[tuple[Facts, list[Run]]]:
    """The runs of a setting as one part, or parted by `rounds` where one seed of a method was run for two of these."""
    members = [members for _, members in _partition(runs, lambda run: _facts(run) | {"seed": run.seed})]
    if all(len({run.config["rounds"] for run in same}) == 1 for same in members):
        return [(facts, runs)]
    return _partition(runs, lambda run: facts | {"rounds": run.config["rounds"]})


def _cut(run: Run, rounds: int) -> Run:
    """The run as if it had ended after `rounds` trainings; a shorter one as it is."""
    if len(run.records) <= rounds:
        return run
    *before, last = run.records[:rounds]
    return replace(run, records=(*before, without_query(last)), uncut=run.records)


def _setting(name: str, methods: Sequence[Method]) -> Setting:
    common = min(len(run.records) for method in methods for run in method.runs.values())
    methods = [replace(one, runs={seed: _cut(run, common) for seed, run in one.runs.items()}) for one in methods]
    runs = [run for method in methods for run in method.runs.values()]
    named: dict[str, Method] = {}
    for method in methods:
        other = named.setdefault(method.name, method)
        if other is not method:
            pair = [next(iter(one.runs.values())).directory for one in (other, method)]
            raise ValueError(
                f"{pair[0]} and {pair[1]} differ in keys that only one of them has, and would both be called "
                f"{method.name}; leave one of them out"
            )
    labels = {run.directory: tuple(record.labels for record in run.records) for run in runs}
    first = runs[0].directory
    for directory, counts in labels.items():
        if counts != labels[first]:
            raise ValueError(
                f"all runs must have trained on as many labels to be compared, but {first} has {labels[first]} and "
                f"{directory} has {counts}; leave one of them out"
            )
    return Setting(name, {method.name: method for method in methods}, labels[first])


def _a_run(setting: Setting) -> Run:
    """One for all, where it is asked what they share."""
    return next(run for method in setting.methods.values() for run in method.runs.values())


def _not_one_setting(first: Run, other: Run) -> str:
    pair = [_setting_facts(run, with_init=False) | {"rounds": run.config["rounds"]} for run in (first, other)]
    keys = _telling_keys([pair])
    told = [", ".join(_told(facts, key) for key in keys) for facts in pair]
    return (
        f"{first.directory} ({told[0]}) and {other.directory} ({told[1]}) are runs of two settings, whose accuracies "
        f"cannot be compared; give runs of one setting, or --settings to have the settings side by side"
    )


# --- facts and names -------------------------------------------------------------------------------------------------


def _facts(run: Run) -> Facts:
    """What makes a run's method, groups first."""
    names = {group: str(run.config[group].get("name") or _class_name(run.config[group])) for group in _GROUPS}
    return names | {"hold_out": 0} | dict(own_leaves(run.config, _NOT_COMPARED))  # older runs have no such key


def _setting_facts(run: Run, with_init: bool) -> Facts:
    """The part of the facts that runs must share to be compared."""
    kept = (*_SETTING, "init") if with_init else _SETTING
    return {key: value for key, value in _facts(run).items() if key.partition(".")[0] in kept}


def _class_name(node: Mapping[str, Any]) -> str:
    """`resnet18` for a network of the class …resnet.ResNet18."""
    return str(node.get("_target_", "")).rpartition(".")[2].lower()


def leaves(node: Mapping[str, Any], ignore: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of each leaf of a configuration; `ignore` names keys to leave out, with all below them."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in ignore:
            continue
        if isinstance(value, Mapping):
            yield from leaves(value, ignore, f"{key}.")
        else:
            yield key, value


def own_leaves(config: Mapping[str, Any], ignore: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The `leaves` of a run's configuration; those that repeat its seed, such as the oracle's, read "${seed}" again."""
    for key, value in leaves(config, ignore):
        repeats = key.rpartition(".")[2] == "seed" and value == config["seed"]
        yield key, "${seed}" if repeats else value


def _peers(facts: Sequence[Facts], key: str, of: Facts) -> list[Facts]:
    """Those that `of` is compared with in `key`: within a group, those of the same name."""
    name, _, rest = key.partition(".")
    return [other for other in facts if not rest or name not in _GROUPS or other[name] == of[name]]


def _telling_keys(classes: Sequence[Sequence[Facts]]) -> list[str]:
    """Keys in which peers of one class differ; of a value and its copies, the first."""
    everything = [facts for members in classes for facts in members]
    keys = list(dict.fromkeys(key for facts in everything for key in facts))
    return [key for key in keys if any(_differ(members, key) for members in classes) and not _is_copy(key, everything)]


def _differ(members: Sequence[Facts], key: str) -> bool:
    return any(
        other.get(key, _ABSENT) != facts.get(key, _ABSENT) for facts in members for other in _peers(members, key, facts)
    )


def _is_copy(key: str, everything: Sequence[Facts]) -> bool:
    """Whether another key is always there with its value: one of the same last name nearer to the top, as for
    acquisition.strategy.c_u, or its dotted form, as for the loop's acquisition_features.

    A configuration is written with its interpolations resolved, so that only this gives them away.
    """
    holders = [facts for facts in everything if key in facts]
    name = key.partition(".")[0]
    owners = {facts.get(name) for facts in holders}  # of a group, those of its name; of another key, everybody
    if any(key not in facts and facts.get(name) in owners for facts in everything):
        return False  # that some of them lack it is something to tell

    def depth(name: str) -> tuple[int, str]:
        return name.count("."), name

    return any(
        all(other in facts and facts[other] == facts[key] for facts in holders)
        for other in holders[0]
        if (other.rpartition(".")[2] == key.rpartition(".")[2] and depth(other) < depth(key))
        or (other != key and other.replace(".", "_") == key)
    )


def _names(everything: Sequence[Facts], keys: Sequence[str], groups: Sequence[str]) -> list[str]:
    """A name for each: those of its `groups`, and KEY=VALUE for what is not as in most of its peers."""
    names = []
    for facts in everything:
        telling = (key for key in keys if key not in groups and not _is_usual(facts, key, everything))
        names.append(", ".join([" ".join(facts[group] for group in groups), *(_told(facts, key) for key in telling)]))
    return names


def _is_usual(facts: Facts, key: str, everything: Sequence[Facts]) -> bool:
    """Whether more of the peers have this value than any other one."""
    mine = facts.get(key, _ABSENT)
    values = [other.get(key, _ABSENT) for other in _peers(everything, key, facts)]
    return all(values.count(value) < values.count(mine) for value in values if value != mine)


def _told(facts: Facts, key: str) -> str:
    if key not in facts:
        return f"no {key}"
    value = facts[key]
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"
