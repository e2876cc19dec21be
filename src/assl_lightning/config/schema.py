"""The configuration of a run as dataclasses, with a rule beside each value. Nothing here imports torch or Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal, get_type_hints

from assl_lightning.base.problems import ProblemsError
from assl_lightning.base.rules import Rule, at_least
from assl_lightning.config.values import Node
from assl_lightning.learning.settings import (
    BatchSize,
    LabelledStream,
    LabelledView,
    Mu,
    NumWorkers,
    Passes,
)
from assl_lightning.loop.settings import KEYS, RoundSettings


class ConfigurationError(ProblemsError):
    """An error of a configuration."""


_NOT_EMPTY = Rule("a text that is not empty", lambda value: bool(value.strip()))
_PATH = Rule("a text that is not empty, without a zero byte", lambda value: bool(value.strip()) and "\0" not in value)
_SIZE = Rule("[height, width], each at least 1", lambda value: min(value) >= 1)
_ALL_ABOVE_ZERO = Rule("numbers above 0", lambda value: min(value, default=1) > 0)


@dataclass(frozen=True)
class DataSection:
    """A data set: its properties, which are checked once it is loaded, and how its images are loaded and augmented."""

    name: Annotated[str, _NOT_EMPTY]
    num_classes: Annotated[int, at_least(2)]
    num_samples: Annotated[int, at_least(2)] | None  # of the pool as it is loaded; None: known once it is
    channels: Annotated[int, at_least(1)]
    image_size: Annotated[tuple[int, int], _SIZE]
    mean: tuple[float, ...] | None  # one for each channel, of pixels in [0, 1]; None: the pool's, once it is loaded
    std: Annotated[tuple[float, ...], _ALL_ABOVE_ZERO] | None
    imbalance_factor: Annotated[float, at_least(1)]  # 1: the pool as it is loaded
    imbalance_seed: Annotated[int, at_least(0)]
    unreadable: Literal["fail", "exclude"]  # an error for pool images that cannot be decoded, or a run without them
    num_workers: NumWorkers  # processes that decode, where the source leaves images in files
    root: str | None  # where files are, or are downloaded to
    source: Node
    weak: Node
    strong: Node


@dataclass(frozen=True)
class AlgorithmSection:
    """A learning algorithm and the batches of its training."""

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
    """A strategy; the settings of the run decide which features it gets."""

    name: Annotated[str, _NOT_EMPTY]
    strategy: Node


@dataclass(frozen=True)
class Config:
    """One run. The values' meanings, units and sources are beside them in `conf/`."""

    name: Annotated[str, _NOT_EMPTY]
    run_dir: Annotated[str, _PATH]
    known_labels: Literal["hidden", "given"]
    cost_per_label: Annotated[float, at_least(0)] | None  # in any currency, for check and report; None: not known
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


def left_open(config: Config) -> tuple[str, ...]:
    """Return the keys that a run takes from the data or the device when it begins, and keeps from then on.

    They have the value null, or, the precision, "auto".
    """
    data = config.data
    keys = {"data.mean": data.mean, "data.std": data.std}
    if "class_names" in data.source:
        keys["data.source.class_names"] = data.source["class_names"]
    of_device = ("trainer.precision",) if config.trainer.get("precision") == "auto" else ()
    return (*(key for key, value in keys.items() if value is None), *of_device)


def fields_of(section: type, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the name, the key and the type of each field of a section that stands at `path`."""
    for name, hint in get_type_hints(section, include_extras=True).items():
        if section is RoundSettings:
            if name != "config":
                yield name, KEYS.get(name, name), hint
        else:
            yield name, "" if hint is RoundSettings else join_key(path, name), hint


def _values(section: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every key of a section and of those below it, with its value."""
    for name, key, _ in fields_of(type(section), path):
        value = getattr(section, name)
        if is_dataclass(value):
            yield from _values(value, key)
        else:
            yield key, value


def _with_lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_lists(item) for item in value]
    return value


def join_key(path: str, name: str) -> str:
    """Return the key of `name` in the section at `path`; "" is the top."""
    return f"{path}.{name}" if path else name
