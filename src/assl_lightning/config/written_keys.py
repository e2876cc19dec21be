"""Name in a message the key that a user writes, where the files of `conf/` pass its value on to another key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.values import as_yaml, show

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

WRITTEN: Mapping[str, str] = {
    "data.source.root": "data.root",
    "data.source.image_size": "data.image_size",
    "data.source.channels": "data.channels",
    "data.source.num_classes": "data.num_classes",
    "data.source.pool_size": "data.num_samples",
    "network.num_classes": "data.num_classes",
    "network.channels": "data.channels",
    "network.image_size": "data.image_size",
    "oracle.num_classes": "data.num_classes",
    "oracle.seed": "seed",
    "acquisition.strategy.c_u": "score.c_u",
    "acquisition.strategy.c_i": "score.c_i",
    "acquisition.strategy.seed": "seed",
    "acquisition.strategy.num_clusters": "data.num_classes",
}
"""Key of a class's argument → the key whose value it has, or whose first number, unless a user gives it another."""


def naming_written_keys(
    function: Callable[Concatenate[Config, Arguments], Result],
) -> Callable[Concatenate[Config, Arguments], Result]:
    """Make a function of a configuration whose `ConfigurationError` names keys as they are in `WRITTEN`."""

    @wraps(function)
    def named(config: Config, /, *arguments: Arguments.args, **keywords: Arguments.kwargs) -> Result:
        try:
            return function(config, *arguments, **keywords)
        except ConfigurationError as error:
            plain = config.as_dict()
            lines = [_with_written_keys(line, plain) for line in error.lines]
            if lines == list(error.lines):
                raise
            raise ConfigurationError(lines) from error

    return named


def _with_written_keys(line: str, plain: Mapping[str, Any]) -> str:
    """Return a line that begins with the key and value that were written, and has them in the list at its end."""
    for key, written in WRITTEN.items():
        value, original = _value_at(key, plain), _value_at(written, plain)
        is_first = isinstance(original, list) and original[:1] == [value]
        if value is None or not (value == original or is_first):
            continue
        beginning, section, name = show(key, value), *key.rpartition(".")[::2]
        if line.startswith(f"{beginning}:"):
            return show(written, original) + line.removeprefix(beginning)
        if line.startswith(f"{section}:"):
            before, at, arguments = line.rpartition("(with ")
            named = re.sub(
                rf"(?<!\S){re.escape(f'{name}={as_yaml(value)}')}(?=[,)])", show(written, original), arguments
            )
            line = f"{before}{at}{named}"
    return line


def _value_at(key: str, plain: Mapping[str, Any]) -> Any:
    """Return the value at a key; None where there is none."""
    found: Any = plain
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
