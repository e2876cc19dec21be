"""Runs → settings → methods → seeds: which runs can be compared, and the names of methods and settings.

A *method* is a configuration without the seed, and without the keys that say where and how the run was recorded. A
*setting* is the task on which methods are compared: data, network, and the numbers of labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from assl_lightning.loop.records import KEYS_WITHOUT_EFFECT, PROVENANCE_KEYS, STOPPING_KEYS, without_query
from assl_lightning.report.analysis.runs import GROUPS, Method, Run, Setting

FlatConfig = dict[str, Any]
"""Dotted key → value of a configuration; the keys `data`, `network`, … stand for the names of these groups."""

Item = TypeVar("Item")

_ABSENT = object()  # the value of a key that is not there; None is the value of one that is

_NAMED = (*GROUPS, "warm_up")
"""The groups whose names stand for their keys, if they differ; `warm_up` may be null, and older runs do not have it."""

WHERE_IMAGES_LIE = ("data.root", "data.source.root", "data.source.download")
"""Keys in which runs on the same images may differ."""

_NOT_COMPARED = (*("seed", "name", "rounds"), *STOPPING_KEYS, *PROVENANCE_KEYS, *KEYS_WITHOUT_EFFECT, *WHERE_IMAGES_LIE)

_SETTING = ("data", "network", "hold_out", "initial_labels", "labels_per_round", "schedule")


def group(runs: Sequence[Run], *, by_setting: bool = False, by_name: bool = False) -> list[Setting]:
    """Group runs into methods over seeds: one `Setting`, or with `by_setting` as many as there are.

    A setting is the data (wherever the files are), the network and the numbers of labels; with `by_setting` also
    `init`, which the paper counts as two settings (§4), and which otherwise distinguishes methods. If some runs of a
    setting have more rounds than others, because they were extended or are not finished, all are cut to the rounds that
    every run has. Only if a seed of a method was run twice, with two numbers of `rounds`, are these two settings.

    With `by_name` runs of one `name` are a setting, called by it: experiments that differ in more than that, such as in
    the share of wrong answers, which otherwise distinguishes methods.

    The name of a method is its acquisition, followed by the keys in which it differs from the others of its setting: a
    value is named for the methods that do not have the most common one, and for all if there is no most common one. If
    groups differ (`algorithm`), their names stand for their keys. A name means the same method in all settings. Keys
    that differ only between settings, such as the learning rate that belongs to a network, are part of the setting.

    Raises:
        ValueError: the runs, or with `by_name` those of a name, belong to several settings and `by_setting` is False, a
            method has a seed twice, or runs of a setting differ in the numbers of labels.
    """
    parts = _partition(runs, lambda run: {"name": run.config.get("name")}) if by_name else [({}, list(runs))]
    settings = [setting for _, members in parts for setting in _settings(members, by_setting)]
    shared_configs = [shared for shared, _ in settings]
    setting_names = (
        [str(members[0].config.get("name")) for _, members in settings]
        if by_name
        else _names(shared_configs, _distinguishing_keys([shared_configs]), ("data", "network"))
    )
    methods = [_partition(members, _flat_config) for _, members in settings]
    configs = [[config for config, _ in of_setting] for of_setting in methods]
    keys = _distinguishing_keys(configs)
    method_names = iter(_names([config for of_setting in configs for config in of_setting], keys, ("acquisition",)))
    return [
        _setting(name, [_method(next(method_names), members) for _, members in of_setting])
        for name, of_setting in zip(setting_names, methods, strict=True)
    ]


def init_pairs(settings: Sequence[Setting]) -> list[tuple[Setting, Setting]]:
    """Return the pairs of settings that differ only in `init`, rand before continue, of a result of `group`."""
    parts = _partition(
        settings, lambda setting: _setting_config(next(setting.runs), with_init=False) | {"labels": setting.labels}
    )
    by_init = [{next(setting.runs).config.get("init"): setting for setting in members} for _, members in parts]
    return [(found["rand"], found["continue"]) for found in by_init if {"rand", "continue"} <= found.keys()]


# --- from runs to settings -------------------------------------------------------------------------------------------


def _partition(items: Sequence[Item], config_of: Callable[[Item], FlatConfig]) -> list[tuple[FlatConfig, list[Item]]]:
    """Return the items with equal configurations, in order of first occurrence; these hold lists, so cannot be keys."""
    parts: list[tuple[FlatConfig, list[Item]]] = []
    for item in items:
        config = config_of(item)
        members = next((members for known, members in parts if known == config), None)
        if members is None:
            parts.append((config, [item]))
        else:
            members.append(item)
    return parts


def _settings(runs: Sequence[Run], by_setting: bool) -> list[tuple[FlatConfig, list[Run]]]:
    """Return the settings of the runs; one, or with `by_setting` as many as there are."""
    found = [
        setting
        for shared, members in _partition(runs, lambda run: _setting_config(run, by_setting))
        for setting in _split_by_rounds(shared, members)
    ]
    if not by_setting and len(found) > 1:
        raise ValueError(_several_settings(found[0][1][0], found[1][1][0]))
    return found


def _split_by_rounds(shared: FlatConfig, runs: list[Run]) -> list[tuple[FlatConfig, list[Run]]]:
    """Split the runs of a setting by `rounds`, if a seed of a method was run with two numbers of rounds."""
    repeated = [members for _, members in _partition(runs, lambda run: _flat_config(run) | {"seed": run.seed})]
    if all(len({run.config["rounds"] for run in members}) == 1 for members in repeated):
        return [(shared, runs)]
    return _partition(runs, lambda run: shared | {"rounds": run.config["rounds"]})


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


def _cut(run: Run, rounds: int) -> Run:
    """Return the run as if it had ended after `rounds` trainings; a shorter run stays as it is."""
    if len(run.records) <= rounds:
        return run
    *before, last = run.records[:rounds]
    return replace(run, records=(*before, without_query(last)), uncut=run.records)


def _setting(name: str, methods: Sequence[Method]) -> Setting:
    common = min(len(run.records) for method in methods for run in method.runs.values())
    methods = [
        replace(method, runs={seed: _cut(run, common) for seed, run in method.runs.items()}) for method in methods
    ]
    named: dict[str, Method] = {}
    for method in methods:
        other = named.setdefault(method.name, method)
        if other is not method:
            pair = [next(iter(same.runs.values())).directory for same in (other, method)]
            raise ValueError(
                f"{pair[0]} and {pair[1]} differ in keys that only one of them has, and would both be called "
                f"{method.name}; leave one of them out"
            )
    runs = [run for method in methods for run in method.runs.values()]
    labels = {run.directory: tuple(record.labels for record in run.records) for run in runs}
    first = runs[0].directory
    for directory, counts in labels.items():
        if counts != labels[first]:
            raise ValueError(
                f"all runs must have trained on as many labels to be compared, but {first} has {labels[first]} and "
                f"{directory} has {counts}; leave one of them out"
            )
    return Setting(name, named, labels[first])


def _several_settings(first: Run, other: Run) -> str:
    pair = [_setting_config(run, with_init=False) | {"rounds": run.config["rounds"]} for run in (first, other)]
    keys = _distinguishing_keys([pair])
    values = [", ".join(_format(config, key) for key in keys) for config in pair]
    return (
        f"{first.directory} ({values[0]}) and {other.directory} ({values[1]}) are runs of two settings, whose "
        f"accuracies cannot be compared; give runs of one setting, or --settings to have the settings side by side"
    )


# --- from configurations to names ------------------------------------------------------------------------------------


def own_leaves(config: Mapping[str, Any], ignore: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of each leaf of a run's configuration.

    `ignore` names keys to leave out, with all below them. A key that repeats the run's seed, such as the oracle's, gets
    the value "${seed}".
    """
    for key, value in _leaves(config, ignore):
        repeats_seed = key.rpartition(".")[2] == "seed" and value == config["seed"]
        yield key, "${seed}" if repeats_seed else value


def _leaves(node: Mapping[str, Any], ignore: Collection[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in ignore:
            continue
        if isinstance(value, Mapping):
            yield from _leaves(value, ignore, f"{key}.")
        else:
            yield key, value


def _flat_config(run: Run) -> FlatConfig:
    """Return the part of a run's configuration that identifies its method and setting, the names of groups first."""
    names = {group: name_of_group(run.config.get(group)) for group in _NAMED}
    leaves = dict(own_leaves(run.config, _NOT_COMPARED))
    return names | {"hold_out": 0} | leaves | names  # older runs have no hold_out; a group that is null is a leaf


def _setting_config(run: Run, with_init: bool) -> FlatConfig:
    """Return the part of a run's configuration that identifies its setting."""
    kept = (*_SETTING, "init") if with_init else _SETTING
    return {key: value for key, value in _flat_config(run).items() if key.partition(".")[0] in kept}


def name_of_group(node: Mapping[str, Any] | None) -> str:
    """Return the name of a group: its own, or `resnet18` for a network of the class …resnet.ResNet18, or none."""
    if node is None:
        return "none"
    return str(node.get("name") or str(node.get("_target_", "")).rpartition(".")[2].lower())


def _distinguishing_keys(classes: Sequence[Sequence[FlatConfig]]) -> list[str]:
    """Return the keys in which comparable members of a class differ; of keys that repeat each other, the first."""
    everything = [config for members in classes for config in members]
    keys = list(dict.fromkeys(key for config in everything for key in config))
    return [key for key in keys if any(_differ(members, key) for members in classes) and not _is_copy(key, everything)]


def _differ(members: Sequence[FlatConfig], key: str) -> bool:
    return any(
        other.get(key, _ABSENT) != config.get(key, _ABSENT)
        for config in members
        for other in _comparable(members, key, config)
    )


def _comparable(configs: Sequence[FlatConfig], key: str, config: FlatConfig) -> list[FlatConfig]:
    """Return the configurations with which `key` can be compared: for a key in a group, those of the same group."""
    name, _, rest = key.partition(".")
    return [other for other in configs if not rest or name not in _NAMED or other[name] == config[name]]


def _is_copy(key: str, everything: Sequence[FlatConfig]) -> bool:
    """True if a key of the same last name, nearer to the top, always has its value, as for acquisition.strategy.c_u.

    Interpolations are resolved when a configuration is written, so that copies can only be recognised like this.
    """
    holders = [config for config in everything if key in config]
    name = key.partition(".")[0]
    owners = {config.get(name) for config in holders}  # for a group, those of its name; for another key, all
    if any(key not in config and config.get(name) in owners for config in everything):
        return False  # a key that some of them lack distinguishes them

    def depth(name: str) -> tuple[int, str]:
        return name.count("."), name

    return any(
        all(other in config and config[other] == config[key] for config in holders)
        for other in holders[0]
        if other.rpartition(".")[2] == key.rpartition(".")[2] and depth(other) < depth(key)
    )


def _names(everything: Sequence[FlatConfig], keys: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Name each configuration by its `groups`, and by KEY=VALUE for values that are not the default."""
    names = []
    for config in everything:
        shown = (key for key in keys if key not in groups and not _is_default(config, key, everything))
        names.append(", ".join([" ".join(config[group] for group in groups), *(_format(config, key) for key in shown)]))
    return names


def _is_default(config: FlatConfig, key: str, everything: Sequence[FlatConfig]) -> bool:
    """True if the configuration has the most common value of a key, and there is only one such value."""
    own = config.get(key, _ABSENT)
    values = [other.get(key, _ABSENT) for other in _comparable(everything, key, config)]
    return all(values.count(value) < values.count(own) for value in values if value != own)


def _format(config: FlatConfig, key: str) -> str:
    if key not in config:
        return f"no {key}"
    value = config[key]
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"
