"""Checks of several values of a configuration together, each of which may be right by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any

from assl_lightning.base.arguments import is_integer
from assl_lightning.config.schema import Config
from assl_lightning.config.trainer_keys import check_trainer
from assl_lightning.config.values import Node, as_yaml, read_value, show
from assl_lightning.data.class_names import read_class_names
from assl_lightning.learning.settings import ALGORITHM_ARGUMENTS, WARM_UP_ARGUMENTS
from assl_lightning.loop.settings import KEYS, Contradiction


def contradictions_in(config: Config) -> list[str]:
    """Return a line for each contradiction between values."""
    return [line for check in _CHECKS for line in check(config)]


def explain(contradiction: Contradiction, **names: str) -> str:
    """Return a line for a contradiction: the keys of its settings, their values, and the reason.

    Args:
        contradiction: names settings as Python does.
        names: option of a group whose class the contradiction names: algorithm="fixmatch".
    """
    keys = {**KEYS, "mu": "algorithm.mu", "teacher": "algorithm.module.teacher"}
    shown = (show(keys.get(name, name), names.get(name, value)) for name, value in contradiction.settings.items())
    return f"{', '.join(shown)}: {contradiction.reason}"


def check_budget(config: Config, num_images: int, because: str = "data.num_samples") -> list[str]:
    """Return a line if the run would ask for more labels than its pool has images, `because` of a key."""
    shortage = config.settings.find_shortage(num_images, f"the pool of {config.data.name}", because)
    return [explain(contradiction) for contradiction in shortage]


def _check_settings(config: Config) -> list[str]:
    return [explain(contradiction) for contradiction in config.settings.find_contradictions()]


def _check_pool(config: Config) -> list[str]:
    return [] if config.data.num_samples is None else check_budget(config, config.data.num_samples)


def _check_first_labels(config: Config) -> list[str]:
    if config.settings.initial_labels or config.known_labels == "given":
        return []
    return [
        f"{show('initial_labels', 0)}, {show('known_labels', config.known_labels)}: must be at least 1, for nothing "
        f"can be learned without a label; or give those that the data have with known_labels=given"
    ]


def _check_epochs(config: Config) -> list[str]:
    steps, per_epoch = config.settings.steps_per_round, config.settings.steps_per_epoch
    if per_epoch is None or steps % per_epoch == 0:
        return []
    small = [divisor for divisor in range(1, isqrt(steps) + 1) if steps % divisor == 0]
    divisors = [*small, *(steps // divisor for divisor in reversed(small))]
    closest = min(divisors, key=lambda divisor: abs(divisor - per_epoch))
    return [
        f"{show('steps_per_epoch', per_epoch)}: must divide steps_per_round={steps}, so that the last test is at the "
        f"last step; the nearest that does is {closest}"
    ]


def _check_channels(config: Config) -> list[str]:
    data = config.data
    return [
        f"{show(f'data.{name}', values)}: must hold data.channels={data.channels} numbers, one for each channel"
        for name, values in (("mean", data.mean), ("std", data.std))
        if values is not None and len(values) != data.channels
    ]


def _check_classes(config: Config) -> list[str]:
    asked = config.network.get("num_classes", config.data.num_classes)
    if asked == config.data.num_classes:
        return []
    return [
        f"{show('network.num_classes', asked)}: must equal data.num_classes={config.data.num_classes}, "
        f"the classes that {config.data.name} has; leave network.num_classes as it is"
    ]


def _check_class_names(config: Config) -> list[str]:
    source = config.data.source
    names = source.get("class_names")
    if names is None or not source["_target_"].startswith("assl_lightning."):
        return []
    try:
        found = read_class_names(names)
    except ValueError as error:
        return [f"{show('data.source.class_names', names)}: {error}"]
    count = config.data.num_classes
    if len(found) == count:
        return []
    return [
        f"{show('data.num_classes', count)}, {show('data.source.class_names', names)}: must be as many, but the names "
        f"are {len(found)}; give data.num_classes={len(found)}, or name {count} classes"
    ]


def _check_module(config: Config) -> list[str]:
    return _check_arguments("algorithm.module", config.algorithm.module, ALGORITHM_ARGUMENTS)


def _check_warm_up(config: Config) -> list[str]:
    return [] if config.warm_up is None else _check_arguments("warm_up", config.warm_up, WARM_UP_ARGUMENTS)


def _check_arguments(key: str, node: Node, hints: Mapping[str, Any]) -> list[str]:
    """Return a line for each argument of the class at `key` whose value is not of its type in `hints`."""
    errors: list[str] = []
    for path, hint in hints.items():
        section, _, name = path.rpartition(".")
        arguments = node.get(section) if section else node
        if isinstance(arguments, Mapping) and name in arguments:
            read_value(hint, arguments[name], f"{key}.{path}", errors)
    return errors


def _check_batches_of_devices(config: Config) -> list[str]:
    devices = config.trainer.get("devices", 1)
    count = len(devices) if isinstance(devices, list) else devices
    if config.algorithm.labelled_stream == "passes" and isinstance(count, int) and count > 1:
        return [
            f"{show('trainer.devices', devices)}: must be 1 with algorithm.labelled_stream=passes, whose last batches "
            f"cannot be divided evenly; or set algorithm.labelled_stream=tiled"
        ]
    if not isinstance(count, int) or count < 1:
        return []  # "auto" and -1 are known when the Trainer is made
    sizes = {"algorithm.batch_size": config.algorithm.batch_size, "warm_up.batch_size": _warm_up_batch_size(config)}
    return [
        f"{show(key, size)}: must be a multiple of {count}, since it is divided among "
        f"trainer.devices={as_yaml(devices)}; for example {max(1, round(size / count)) * count}"
        for key, size in sizes.items()
        if size % count
    ]


def _warm_up_batch_size(config: Config) -> int:
    """Return the images of a step of the warm-up; 0 where it is not known."""
    size = (config.warm_up or {}).get("batch_size", 0)
    return size if is_integer(size) else 0


_CHECKS: tuple[Callable[[Config], list[str]], ...] = (
    _check_settings,
    _check_pool,
    _check_first_labels,
    _check_epochs,
    _check_channels,
    _check_classes,
    _check_class_names,
    _check_module,
    _check_warm_up,
    _check_batches_of_devices,
    lambda config: check_trainer(config.trainer),
)
