"""What a configuration may hold: dataclasses, a rule beside each value, and the checks that need more than one value.

`read` turns the plain dictionary that Hydra composed into a `Config`, or raises `ConfigurationError` with one line for
each thing that is wrong: the key, the value that came, what was expected, and what to do. Nothing here imports torch,
Lightning or Hydra, so that a wrong configuration is refused before anybody waits for them.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from math import isqrt
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from assl_lightning.base.arguments import is_integer, is_number
from assl_lightning.base.paths import PATH_KEYS, expand
from assl_lightning.base.problems import ProblemsError
from assl_lightning.base.words import nearest, shortened
from assl_lightning.data.class_names import read_class_names
from assl_lightning.loop.records import FORMER_KEYS
from assl_lightning.loop.targets import with_present_targets

Node = dict[str, Any]
"""A part of the configuration that names its class in `_target_`; the rest are that class's own arguments."""

Section = TypeVar("Section")


class ConfigurationError(ProblemsError):
    """An error of a configuration."""


@dataclass(frozen=True)
class Rule:
    """What a value must be, beside its type: `sentence` ends "must be …", `test` says whether a value is."""

    sentence: str
    test: Callable[[Any], bool]


def _at_least(smallest: int) -> Rule:
    return Rule(f"at least {smallest}", lambda value: bool(value >= smallest))


_MOST = 10**9


def _count(smallest: int) -> Rule:
    """Of steps, images or labels; what is larger was never meant, and some of it no integer of PyTorch's holds."""
    return Rule(f"at least {smallest} and at most {_MOST}", lambda value: bool(smallest <= value <= _MOST))


def _above(bound: int) -> Rule:
    return Rule(f"above {bound}", lambda value: bool(value > bound))


_NOT_EMPTY = Rule("a text that is not empty", lambda value: bool(value.strip()))
_PATH = Rule("a text that is not empty, without a zero byte", lambda value: bool(value.strip()) and "\0" not in value)
_SHARE = Rule("in (0, 1]", lambda value: 0 < value <= 1)
_DECAY = Rule("above 0 and below 1, or null for no averaging", lambda value: 0 < value < 1)
_SIZE = Rule("[height, width], each at least 1", lambda value: min(value) >= 1)
_ALL_ABOVE_ZERO = Rule("numbers above 0", lambda value: min(value, default=1) > 0)


@dataclass(frozen=True)
class ScoreSection:
    """How the running statistics become a score (paper, Eq. 3, 5 and 6)."""

    alpha: Annotated[float, _SHARE]
    c_u: Annotated[float, _at_least(0)]
    c_i: Annotated[float, _at_least(0)]
    variance: Literal["post", "pre"]
    reset: bool


@dataclass(frozen=True)
class CheckpointSection:
    """How often a training is saved from within; it goes on from there when it was stopped."""

    every_n_steps: Annotated[int | None, _at_least(1)]
    every_n_seconds: Annotated[float | None, _above(0)]


@dataclass(frozen=True)
class DataSection:
    """A data set: what can be known before it is loaded, and how its images are loaded and augmented."""

    name: Annotated[str, _NOT_EMPTY]
    num_classes: Annotated[int, _at_least(2)]
    num_samples: Annotated[int | None, _at_least(2)]  # of the pool as it is loaded; None: known once it is
    channels: Annotated[int, _at_least(1)]
    image_size: Annotated[tuple[int, int], _SIZE]
    mean: tuple[float, ...] | None  # one for each channel, of pixels in [0, 1]; None: the pool's, once it is loaded
    std: Annotated[tuple[float, ...] | None, _ALL_ABOVE_ZERO]
    imbalance_factor: Annotated[float, _at_least(1)]  # 1: the pool as it is loaded
    imbalance_seed: Annotated[int, _at_least(0)]
    unreadable: Literal["fail", "exclude"]  # what becomes of pool images that cannot be decoded
    num_workers: Annotated[int, _at_least(0)]  # processes that decode, where the source leaves images in files
    root: str | None  # where files are, or are downloaded to
    source: Node
    weak: Node
    strong: Node


@dataclass(frozen=True)
class AlgorithmSection:
    """A learning algorithm and the batches that it is fed."""

    name: Annotated[str, _NOT_EMPTY]
    batch_size: Annotated[int, _count(1)]
    mu: Annotated[int, _count(0)]
    labelled_view: Literal["weak", "plain"]
    labelled_stream: Literal["tiled", "passes"]
    max_passes: Annotated[int | None, _at_least(1)]
    include_labelled: bool
    weight_ema: Annotated[float | None, _DECAY]
    module: Node


@dataclass(frozen=True)
class AcquisitionSection:
    """A strategy, and what it is given to look at."""

    name: Annotated[str, _NOT_EMPTY]
    strategy: Node
    unvisited: Literal["exclude", "infer", "random"]
    weights: Literal["raw", "ema"]
    features: Literal["inference", "training"]


@dataclass(frozen=True)
class Config:
    """One run. The values' meanings, units and sources are beside them in `conf/`."""

    name: Annotated[str, _NOT_EMPTY]
    seed: Annotated[int, _at_least(0)]
    run_dir: Annotated[str, _PATH]
    rounds: Annotated[int, _at_least(0)]
    initial_labels: Annotated[int, _at_least(0)]
    initial_acquisition: Literal["random", "kmeans_plus_plus"]
    known_labels: Literal["hidden", "given"]
    hold_out: Annotated[int, _at_least(0)]
    labels_per_round: Annotated[int, _at_least(1)]
    steps_per_round: Annotated[int, _count(1)]
    steps_per_epoch: Annotated[int | None, _at_least(1)]
    init: Literal["rand", "continue"]
    continue_from: Literal["raw", "ema"]
    non_finite: Literal["stop", "skip"]
    checkpoint: CheckpointSection
    change_devices: bool
    score: ScoreSection
    data: DataSection
    network: Node
    algorithm: AlgorithmSection
    acquisition: AcquisitionSection
    trainer: Node
    oracle: Node

    def as_dict(self) -> dict[str, Any]:
        """The same as plain Python, lists for tuples: what YAML and JSON hold, and what `read` takes."""
        plain: dict[str, Any] = _with_lists(asdict(self))
        return plain


def read(plain: Mapping[str, Any]) -> Config:
    """The configuration in `plain`, a resolved tree of dictionaries, lists and numbers; it is not changed.

    Paths have the home directory for a leading `~`, see `paths.expand`.

    Raises `ConfigurationError` with one line for each unknown or missing key, wrong type and value out of range; where
    there is none of these, with one line for each contradiction between values.
    """
    errors: list[str] = []
    present = _without_former_keys(with_present_targets(_with_expanded_paths(plain, "", errors)))
    config = _read_section(Config, present, "", errors)
    if config is None or errors:
        raise ConfigurationError(errors)
    contradictions = [line for check in _CHECKS for line in check(config)]
    if contradictions:
        raise ConfigurationError(contradictions)
    return config


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


def check_budget(config: Config, num_samples: int | None, because: str = "data.num_samples") -> list[str]:
    """A line if the run would ask for more labels than the pool of `num_samples` images has, `because` of a key."""
    at_first = config.hold_out + config.initial_labels
    needed = at_first + config.rounds * config.labels_per_round
    if num_samples is None or needed <= num_samples:
        return []
    if config.initial_labels > num_samples:
        return [
            f"{show('initial_labels', config.initial_labels)}: must be at most {num_samples}, "
            f"the images in the pool of {config.data.name} ({because})"
        ]
    if at_first > num_samples:  # fewer rounds do not help
        return [
            f"hold_out={config.hold_out}, initial_labels={config.initial_labels}: must be at most {num_samples} "
            f"together, the images in the pool of {config.data.name} ({because})"
        ]
    possible = (num_samples - at_first) // config.labels_per_round
    given, summed = (f", hold_out={config.hold_out}", "hold_out + ") if config.hold_out else ("", "")
    return [
        f"rounds={config.rounds}, labels_per_round={config.labels_per_round}, initial_labels={config.initial_labels}"
        f"{given}: {summed}initial_labels + rounds × labels_per_round = {needed} labels, but the pool of "
        f"{config.data.name} has {num_samples} images ({because}); lower one of them, for example rounds={possible}"
    ]


# --- one value at a time --------------------------------------------------------------------------------------------


def _read_section(section: type[Section], plain: object, path: str, errors: list[str]) -> Section | None:
    """The dataclass `section` from the dictionary `plain`; None where a line was added to `errors`."""
    if not isinstance(plain, Mapping):
        errors.append(f"{show(path, plain)}: must be a group of keys; choose one with {path}=OPTION")
        return None
    before = len(errors)
    hints = get_type_hints(section, include_extras=True)
    for name in (str(key) for key in plain if key not in hints and _join(path, str(key)) not in FORMER_KEYS):
        errors.append(f"{show(_join(path, name), plain[name])}: {unknown_key(path, name, hints)}")
    values: dict[str, Any] = {}
    for name, hint in hints.items():
        key = _join(path, name)
        if name in plain:
            values[name] = _read_value(hint, plain[name], key, errors)
        else:
            errors.append(f"{key}: is missing; give it as {key}=VALUE or in the file of its group")
    return section(**values) if len(errors) == before else None


def _read_value(hint: Any, value: object, key: str, errors: list[str]) -> Any:
    """`value` as the type `hint`, or None and a line in `errors`."""
    rule: Rule | None = None
    if get_origin(hint) is Annotated:
        hint, rule = get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return _read_section(hint, value, key, errors)
    if hint == Node:
        return _read_node(value, key, errors)
    if get_origin(hint) in (Union, types.UnionType):  # the only unions here are with None
        if value is None:
            return None
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    converted = _convert(hint, value)
    if converted is not _WRONG and (rule is None or rule.test(converted)):
        return converted
    expected = [_expected(hint)] if converted is _WRONG else []
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    must_be = ", ".join([*expected, *([rule.sentence] if rule else [])])
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
    if hint is float:
        return float(value) if is_number(value) else _WRONG
    if hint is int:
        return value if is_integer(value) else _WRONG
    return value if isinstance(value, hint) else _WRONG


def _expected(hint: Any) -> str:
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


def _check_pool(config: Config) -> list[str]:
    return check_budget(config, config.data.num_samples)


def _check_first_labels(config: Config) -> list[str]:
    if config.initial_labels or config.known_labels == "given":
        return []
    return [
        f"{show('initial_labels', 0)}, {show('known_labels', config.known_labels)}: must be at least 1, for nothing "
        f"can be learned without a label; or give those that the data have with known_labels=given"
    ]


def _check_epochs(config: Config) -> list[str]:
    if config.steps_per_epoch is None or config.steps_per_round % config.steps_per_epoch == 0:
        return []
    small = [d for d in range(1, isqrt(config.steps_per_round) + 1) if config.steps_per_round % d == 0]
    divisors = [*small, *(config.steps_per_round // d for d in reversed(small))]
    closest = min(divisors, key=lambda d: abs(d - config.steps_per_epoch))  # type: ignore[operator]
    return [
        f"{show('steps_per_epoch', config.steps_per_epoch)}: must divide steps_per_round={config.steps_per_round}, "
        f"so that the last test is at the last step; the nearest that does is {closest}"
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


def _check_weights(config: Config) -> list[str]:
    if config.algorithm.weight_ema is not None:
        return []
    return [
        f"{show(key, 'ema')}: needs averaged weights, but algorithm.weight_ema=null; "
        f"set algorithm.weight_ema=0.999 or {key}=raw"
        for key, weights in (
            ("acquisition.weights", config.acquisition.weights),
            ("continue_from", config.continue_from),
        )
        if weights == "ema"
    ]


_ARGUMENTS_OF_ALGORITHMS: Mapping[str, Any] = {
    "threshold": Annotated[float, _above(0)],
    "temperature": Annotated[float, _above(0)],
    "lambda_u": Annotated[float, _at_least(0)],
    "weight_decay": Annotated[float, _at_least(0)],
    "weight_decay_exempt": Literal["by_module", "by_name"],
    "stop_at_train_accuracy": Annotated[float | None, _SHARE],
    "optimizer.lr": Annotated[float, _above(0)],
    "optimizer.momentum": Annotated[float, Rule("in [0, 1)", lambda value: 0 <= value < 1)],
}
"""Below algorithm.module, the arguments that every algorithm means the same by; the rest is for its class to check."""


def _check_module(config: Config) -> list[str]:
    errors: list[str] = []
    for path, hint in _ARGUMENTS_OF_ALGORITHMS.items():
        section, _, name = path.rpartition(".")
        node = config.algorithm.module.get(section) if section else config.algorithm.module
        if isinstance(node, Mapping) and name in node:
            _read_value(hint, node[name], f"algorithm.module.{path}", errors)
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
    batch_size = config.algorithm.batch_size
    if not isinstance(count, int) or count < 1 or batch_size % count == 0:
        return []  # "auto" and -1 are known when the Trainer is made
    return [
        f"{show('algorithm.batch_size', batch_size)}: must be a multiple of {count}, since it is divided among "
        f"trainer.devices={_as_yaml(devices)}; for example {max(1, round(batch_size / count)) * count}"
    ]


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


def _check_trainer(config: Config) -> list[str]:
    errors = [
        f"{show(f'trainer.{key}', config.trainer[key])}: the loop over rounds sets this itself; leave it out, {instead}"
        for key, instead in _SET_BY_THE_LOOP.items()
        if key in config.trainer
    ]
    _read_value(
        Annotated[int, _at_least(1)], config.trainer.get("log_every_n_steps", 50), "trainer.log_every_n_steps", errors
    )
    logger = config.trainer.get("logger", False)
    if logger not in (None, False) and not (isinstance(logger, Mapping) and isinstance(logger.get("_target_"), str)):
        errors.append(
            f"{show('trainer.logger', logger)}: must be a logger's group; choose one with trainer/logger=csv, "
            f"or none with trainer/logger=none"
        )
    return errors


_CHECKS: tuple[Callable[[Config], list[str]], ...] = (
    _check_pool,
    _check_first_labels,
    _check_epochs,
    _check_channels,
    _check_classes,
    _check_class_names,
    _check_weights,
    _check_module,
    _check_devices,
    _check_trainer,
)
