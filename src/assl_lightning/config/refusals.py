"""Turn an error of a class about its arguments into one line that begins with the key of the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException

from assl_lightning.base.words import one_line
from assl_lightning.config.schema import ConfigurationError
from assl_lightning.config.values import Node, show

_BUILT_IN_REFUSALS = (ValueError, TypeError, OSError, ImportError, RuntimeError)
_LEAST_LETTERS = 3  # of a value, for it to be recognised in a message
_MOST_LETTERS = 100  # of the arguments, where none of them can be named


@contextmanager
def error_at(key: str, node: Node) -> Iterator[None]:
    """Turn an error of this block into a `ConfigurationError` that begins with the key and the value at fault.

    Args:
        key: the place of `node` in the configuration; if the node has this key alone, the value is that of the key.
        node: the arguments, among which the one that the message is about is searched.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except (InstantiationException, MisconfigurationException, *_BUILT_IN_REFUSALS) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        problem = one_line(cause)
        raise ConfigurationError(
            f"{show(key, node[key])}: {problem}" if list(node) == [key] else _line(key, node, problem)
        ) from error


def _line(key: str, node: Node, problem: str) -> str:
    """Return a line that begins with the argument that the problem is about, or ends with all if that is not clear."""
    for name, value in node.items():
        if isinstance(value, Mapping) and re.search(_at_the_beginning(name, value), problem):
            return f"{show(f'{key}.{name}', value)}: {problem}"
    arguments = dict(_arguments(key, node))
    for make_pattern in (_at_the_beginning, _as_an_argument, _by_its_value):
        patterns = {name: make_pattern(name.rpartition(".")[2], value) for name, value in arguments.items()}
        found = [
            (match.start(), name)
            for name, pattern in patterns.items()
            if pattern and (match := re.search(pattern, problem))
        ]
        if found:
            name = min(found)[1]
            return f"{show(name, arguments[name])}: {problem}"
    given = ", ".join(show(name.removeprefix(f"{key}."), value) for name, value in arguments.items())
    if len(given) > _MOST_LETTERS:  # what was added by hand is last
        given = f"… {given[-_MOST_LETTERS:].partition(' ')[2]}"
    return f"{key}: {problem} (with {given})" if given else f"{key}: {problem}"


def _arguments(key: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if str(name).startswith("_"):
            continue
        if isinstance(value, Mapping):
            yield from _arguments(f"{key}.{name}", value)
        else:
            yield f"{key}.{name}", value


def _at_the_beginning(name: str, _: object) -> str:
    return rf"(?i)^{re.escape(name)}\b"


def _as_an_argument(name: str, _: object) -> str:
    """Return a pattern for `name must`, name= or the name in backticks; for it alone if it has an underscore."""
    escaped = re.escape(name)
    behind = r"(?!\w)" if "_" in name else r"(?: must\b|=)"
    return rf"\b{escaped}{behind}|`{escaped}`"


def _by_its_value(_: str, value: object) -> str | None:
    is_telling = isinstance(value, str) and len(value) >= _LEAST_LETTERS
    return rf"(?<!\w){re.escape(str(value))}(?!\w)" if is_telling else None
