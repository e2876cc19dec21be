"""The schema of a configuration: dataclasses, a rule beside each value, and the checks of several values together.

`read` turns the plain dictionary that Hydra composed into a `Config`, or raises `ConfigurationError` with one line for
each thing that is wrong: the key, the value that came, what was expected, and what to do. Nothing here imports torch,
Lightning or Hydra, so that a wrong configuration is refused before anybody waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from math import isqrt
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.paths import PATH_KEYS, expand
from assl_lightning.base.problems import ProblemsError
from assl_lightning.base.rules import Rule, at_least, take_apart
from assl_lightning.base.words import nearest, shortened
from assl_lightning.data.class_names import read_class_names
from assl_lightning.learning.settings import (
    ALGORITHM_ARGUMENTS,
    WARM_UP_ARGUMENTS,
    BatchSize,
    LabelledStream,
    LabelledView,
    MatmulPrecision,
    Mu,
    NumWorkers,
    Passes,
)
from assl_lightning.loop.records import FORMER_KEYS, PROVENANCE_KEYS, with_later_keys
from assl_lightning.loop.settings import KEYS, Contradiction, RoundSettings
from assl_lightning.loop.targets import with_present_targets

Node = dict[str, Any]
"""A part of the configuration that names its class in `_target_`; the rest are that class's own arguments."""

Section = TypeVar("Section")


class ConfigurationError(ProblemsError):
    """An error of a configuration."""


_NOT_EMPTY = Rule("a text that is not empty", lambda value: bool(value.strip()))
_PATH = Rule("a text that is not empty, without a zero byte", lambda value: bool(value.strip()) and "\0" not in value)
_SIZE = Rule("[height, width], each at least 1", lambda value: min(value) >= 1)
_ALL_ABOVE_ZERO = Rule("numbers above 0", lambda value: min(value, default=1) > 0)


@dataclass(frozen=True)
class DataSection:
    """A data set: what can be known before it is loaded, and how its images are loaded and augmented."""

    name: Annotated[str, _NOT_EMPTY]
    num_classes: Annotated[int, at_least(2)]
    num_samples: Annotated[int, at_least(2)] | None  # of the pool as it is loaded; None: known once it is
    channels: Annotated[int, at_least(1)]
    image_size: Annotated[tuple[int, int], _SIZE]
    mean: tuple[float, ...] | None  # one for each channel, of pixels in [0, 1]; None: the pool's, once it is loaded
    std: Annotated[tuple[float, ...], _ALL_ABOVE_ZERO] | None
    imbalance_factor: Annotated[float, at_least(1)]  # 1: the pool as it is loaded
    imbalance_seed: Annotated[int, at_least(0)]
    unreadable: Literal["fail", "exclude"]  # what becomes of pool images that cannot be decoded
    num_workers: NumWorkers  # processes that decode, where the source leaves images in files
    root: str | None  # where files are, or are downloaded to
    source: Node
    weak: Node
    strong: Node


@dataclass(frozen=True)
class AlgorithmSection:
    """A learning algorithm and the batches that it is fed."""

    name: Annotated[str, _NOT_EMPTY]
    batch_size: BatchSize
    mu: Mu
    labelled_view: LabelledView
    labelled_stream: LabelledStream
    max_passes: Passes | None
    include_labelled: bool
    module: Node


@dataclass(frozen=True)
class AcquisitionSection:
    """A strategy; what it is given to look at is among the settings of the run."""

    name: Annotated[str, _NOT_EMPTY]
    strategy: Node


@dataclass(frozen=True)
class Config:
    """One run. The values' meanings, units and sources are beside them in `conf/`."""

    name: Annotated[str, _NOT_EMPTY]
    run_dir: Annotated[str, _PATH]
    known_labels: Literal["hidden", "given"]
    cost_per_label: (
        Annotated[float, at_least(0)] | None
    )  # in any currency, for the check and the report; None: not known
    settings: RoundSettings  # whose keys stand at the top, but for `KEYS`
    data: DataSection
    network: Node
    algorithm: AlgorithmSection
    acquisition: AcquisitionSection
    warm_up: Node | None  # the training before the first label; None: there is none
    stop: Node | None  # the rule that may end the run early; None: there is none
    trainer: Node
    oracle: Node

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as plain Python, which YAML and JSON hold and `read` takes: lists for tuples."""
        tree: dict[str, Any] = {}
        for key, value in _values(self, ""):
            group, _, name = key.rpartition(".")
            (tree.setdefault(group, {}) if group else tree)[name] = _with_lists(value)
        return tree


def read(plain: Mapping[str, Any]) -> Config:
    """Read `plain`, a resolved tree of dictionaries, lists and numbers; it is not changed.

    Paths have the home directory for a leading `~`, see `paths.expand`.

    Raises:
        ConfigurationError: a line for each unknown or missing key, wrong type and value out of range; where there is
            none of these, a line for each contradiction between values.
    """
    errors: list[str] = []
    tree = _without_former_keys(with_present_targets(_with_expanded_paths(plain, "", errors)))
    values = _read_values(tree, errors)
    if errors:
        raise ConfigurationError(errors)
    config = _build(Config, "", values)
    contradictions = [line for check in _CHECKS for line in check(config)]
    if contradictions:
        raise ConfigurationError(contradictions)
    return config


def read_written(content: Mapping[str, Any]) -> Config:
    """Read the configuration in the content of a run's config.yaml, which also tells how the run came about."""
    return read({key: value for key, value in with_later_keys(content).items() if key not in PROVENANCE_KEYS})


def show(key: str, value: object) -> str:
    """`key=value` as one would type it, long values cut short.

    >>> show("score.alpha", None), show("oracle", {"_target_": "x"})
    ('score.alpha=null', 'oracle={_target_: x}')
    """
    return f"{key}={shortened(_as_yaml(value))}"


def left_open(config: Config) -> tuple[str, ...]:
    """The keys whose value only the data tell, as long as it is null: a run fills them in, and holds them fast."""
    data = config.data
    keys = {"data.mean": data.mean, "data.std": data.std}
    if "class_names" in data.source:
        keys["data.source.class_names"] = data.source["class_names"]
    return tuple(key for key, value in keys.items() if value is None)


def unknown_key(section: str, name: str, known: Iterable[str]) -> str:
    """Explain why `section` has no key `name`, beside those `known`; "" is the whole configuration."""
    if f"{section}.{name}" in FORMER_KEYS:
        return "is not needed any more, since the class itself says it; leave it out"
    names = sorted(known)
    where = section or "the configuration"
    if not names:
        return f"{where} has no keys yet; add one with a plus, +{where}.{name}=VALUE"
    return f"{where} has no key {name!r}{nearest(name, names)}; its keys are {', '.join(names)}"


def explain(contradiction: Contradiction, **names: str) -> str:
    """Return a line that says with which keys the settings of a contradiction are given.

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


# --- one value at a time --------------------------------------------------------------------------------------------


def _fields(section: type, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the name, the key and the type of each field of a section that stands at `path`."""
    for name, hint in get_type_hints(section, include_extras=True).items():
        if section is RoundSettings:
            if name != "config":
                yield name, KEYS.get(name, name), hint
        else:
            yield name, "" if hint is RoundSettings else _join(path, name), hint


def _leaves(section: type, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every key of a section and of those below it, with its type."""
    for _, key, hint in _fields(section, path):
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _leaves(hint, key)
        else:
            yield key, hint


def _values(section: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every key of a section and of those below it, with its value."""
    for name, key, _ in _fields(type(section), path):
        value = getattr(section, name)
        if is_dataclass(value):
            yield from _values(value, key)
        else:
            yield key, value


def _build(section: type[Section], path: str, values: Mapping[str, Any]) -> Section:
    """Return a section, and those below it, with the values of its keys."""
    made = {}
    for name, key, hint in _fields(section, path):
        is_section = isinstance(hint, type) and is_dataclass(hint)
        made[name] = _build(hint, key, values) if is_section else values[key]
    return section(**made)


def _read_values(tree: Mapping[str, Any], errors: list[str]) -> dict[str, Any]:
    """Return the value of each key, of its type; a line in `errors` for each that is wrong, missing or unknown."""
    hints = dict(_leaves(Config, ""))
    groups: dict[str, list[str]] = {"": []}  # "" is the top
    for key in hints:
        group, _, name = key.rpartition(".")
        groups.setdefault(group, []).append(name)
    values: dict[str, Any] = {}
    for group, names in groups.items():
        content = tree.get(group) if group else tree
        known = [*names, *(filter(None, groups) if not group else ())]
        if group and group not in tree:
            errors.append(_missing(group))
        elif not isinstance(content, Mapping):
            errors.append(f"{show(group, content)}: must be a group of keys; choose one with {group}=OPTION")
        else:
            errors += [
                f"{show(_join(group, str(name)), value)}: {unknown_key(group, str(name), known)}"
                for name, value in content.items()
                if name not in known and _join(group, str(name)) not in FORMER_KEYS
            ]
            for name in names:
                key = _join(group, name)
                if name in content:
                    values[key] = _read_value(hints[key], content[name], key, errors)
                else:
                    errors.append(_missing(key))
    return values


def _missing(key: str) -> str:
    return f"{key}: is missing; give it as {key}=VALUE or in the file of its group"


def _read_value(hint: Any, value: object, key: str, errors: list[str]) -> Any:
    """Return `value` as the type `hint`, or None and a line in `errors`."""
    kind, rule, may_be_none = take_apart(hint)
    if value is None and may_be_none:
        return None
    if kind == Node:
        return _read_node(value, key, errors)
    converted = _convert(kind, value)
    if converted is not _WRONG and (rule is None or rule.test(converted)):
        return converted
    expected = [_expected(kind)] if converted is _WRONG else []
    must_be = ", ".join([*expected, *([rule.sentence] if rule else []), *(["or null"] if may_be_none else [])])
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    errors.append(f"{show(key, value)}: must be {must_be}{nearest(str(value), choices)}")
    return None


def _read_node(value: object, key: str, errors: list[str]) -> Node | None:
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str) or not value["_target_"]:
        errors.append(f"{show(key, value)}: must name the class to build in {key}._target_, as package.module.Class")
        return None
    return dict(value)


_WRONG = object()


def _convert(hint: Any, value: object) -> Any:
    """`value` as `hint`, or `_WRONG`. An integer is a number; a boolean and a text are not."""
    if get_origin(hint) is Literal:
        return value if isinstance(value, str) and value in get_args(hint) else _WRONG
    if get_origin(hint) is tuple:
        element, *rest = get_args(hint)
        if (
            not isinstance(value, Sequence)
            or isinstance(value, str)
            or (rest != [Ellipsis] and len(value) != 1 + len(rest))
        ):
            return _WRONG
        converted = [_convert(element, item) for item in value]
        return _WRONG if _WRONG in converted else tuple(converted)
    if get_origin(hint) is UnionType:
        return next((found for part in get_args(hint) if (found := _convert(part, value)) is not _WRONG), _WRONG)
    return _convert_plain(hint, value)


def _convert_plain(hint: Any, value: object) -> Any:
    if hint is float:
        return float(value) if is_number(value) else _WRONG
    if hint is int:
        return value if is_integer(value) else _WRONG
    return value if isinstance(value, hint) else _WRONG


def _expected(hint: Any) -> str:
    if get_origin(hint) is UnionType:
        return " or ".join(map(_expected, get_args(hint)))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(get_args(hint))
    if get_origin(hint) is tuple:
        element = get_args(hint)[0]
        return f"a list of {'integers' if element is int else 'numbers' if element is float else _expected(element)}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "a text"}[hint]


def _with_expanded_paths(value: Any, path: str, errors: list[str]) -> Any:
    """`value` with the home directory for `~` in every path; a line in `errors` for each path that has none."""
    if isinstance(value, Mapping):
        return {key: _with_expanded_paths(item, _join(path, str(key)), errors) for key, item in value.items()}
    if not isinstance(value, str) or path.rpartition(".")[2] not in PATH_KEYS:
        return value
    try:
        return expand(value)
    except ValueError as error:
        errors.append(f"{path}: {error}")
        return value


def _without_former_keys(plain: Any) -> Any:
    """Leave out data.source.unreadable, which sources of this package took before data.unreadable alone decided."""
    match plain:
        case {"data": {"source": {"_target_": str(name), "unreadable": _, **arguments}, **data}, **others}:
            if name.startswith("assl_lightning."):
                return {**others, "data": {**data, "source": {"_target_": name, **arguments}}}
    return plain


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _with_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_lists(item) for item in value]
    return value


def _as_yaml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_as_yaml(item) for item in value) + "]"
    words: dict[object, str] = {None: "null", True: "true", False: "false", "": "''"}
    return words[value] if value is None or isinstance(value, bool) or value == "" else str(value)


# --- values that must fit one another -------------------------------------------------------------------------------


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
            _read_value(hint, arguments[name], f"{key}.{path}", errors)
    return errors


def _check_devices(config: Config) -> list[str]:
    devices = config.trainer.get("devices", 1)
    if isinstance(devices, bool) or not isinstance(devices, (int, str, list)) or devices in (0, "", []):
        return [f"{show('trainer.devices', devices)}: must be a number of devices, a list of their numbers, or auto"]
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
        f"trainer.devices={_as_yaml(devices)}; for example {max(1, round(size / count)) * count}"
        for key, size in sizes.items()
        if size % count
    ]


def _warm_up_batch_size(config: Config) -> int:
    """Return the images of a step of the warm-up; 0 where it is not known."""
    size = (config.warm_up or {}).get("batch_size", 0)
    return size if is_integer(size) else 0


_SET_BY_THE_LOOP: Mapping[str, str] = {
    "max_epochs": "use steps_per_round",
    "min_epochs": "use steps_per_round",
    "max_steps": "use steps_per_round",
    "min_steps": "use steps_per_round",
    "max_time": "use steps_per_round",
    "limit_train_batches": "use steps_per_round",
    "limit_val_batches": "the whole test set is always used",
    "barebones": "a run logs and tests",
    "fast_dev_run": "use rounds=0 steps_per_round=1",
    "overfit_batches": "use initial_labels and algorithm.batch_size",
    "check_val_every_n_epoch": "use steps_per_epoch",
    "val_check_interval": "use steps_per_epoch",
    "default_root_dir": "use run_dir",
    "num_sanity_val_steps": "the network is tested where steps_per_epoch says",
    "enable_checkpointing": "use checkpoint.every_n_steps and checkpoint.every_n_seconds",
    "use_distributed_sampler": "the samplers divide each batch among devices themselves",
    "reload_dataloaders_every_n_epochs": "the samplers know the epoch themselves",
    "accumulate_grad_batches": "use algorithm.batch_size, which is the batch of one optimizer step",
}


TRAINER_KEYS: Mapping[str, Any] = {"matmul_precision": MatmulPrecision, "cuda_graph": bool}
"""Keys of trainer that are none of Lightning's, with their types."""


def _check_trainer(config: Config) -> list[str]:
    errors = [
        f"{show(f'trainer.{key}', config.trainer[key])}: the loop over rounds sets this itself; leave it out, {instead}"
        for key, instead in _SET_BY_THE_LOOP.items()
        if key in config.trainer
    ]
    _read_value(
        Annotated[int, at_least(1)], config.trainer.get("log_every_n_steps", 50), "trainer.log_every_n_steps", errors
    )
    for key, hint in TRAINER_KEYS.items():
        if key in config.trainer:
            _read_value(hint, config.trainer[key], f"trainer.{key}", errors)
    logger = config.trainer.get("logger", False)
    if logger not in (None, False) and not (isinstance(logger, Mapping) and isinstance(logger.get("_target_"), str)):
        errors.append(
            f"{show('trainer.logger', logger)}: must be a logger's group; choose one with trainer/logger=csv, "
            f"or none with trainer/logger=none"
        )
    return errors


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
    _check_devices,
    _check_trainer,
)
