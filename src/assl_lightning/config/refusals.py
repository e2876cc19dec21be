"""Errors of a class about the arguments that a configuration gives it, as one line that begins with the key."""

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
    """Say under which key a class refused its arguments, or the data could not be read.

    Args:
        key: where `node` is in the configuration; where the node holds this key alone, it is that key's own value.
        node: the arguments. The one that the message is about comes first, with its value.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except (InstantiationException, MisconfigurationException, *_BUILT_IN_REFUSALS) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        said = one_line(cause)
        raise ConfigurationError(
            f"{show(key, node[key])}: {said}" if list(node) == [key] else _line(key, node, said)
        ) from error


def _line(key: str, node: Node, said: str) -> str:
    """A line that begins with the argument that `said` is about, or ends with all of them where that is not clear."""
    arguments = dict(_arguments(key, node))
    for make_pattern in (_at_the_beginning, _as_an_argument, _by_its_value):
        patterns = {name: make_pattern(name.rpartition(".")[2], value) for name, value in arguments.items()}
        found = [(match.start(), name) for name, one in patterns.items() if one and (match := re.search(one, said))]
        if found:
            name = min(found)[1]
            return f"{show(name, arguments[name])}: {said}"
    given = ", ".join(show(name.removeprefix(f"{key}."), value) for name, value in arguments.items())
    if len(given) > _MOST_LETTERS:  # what was added by hand is last
        given = f"… {given[-_MOST_LETTERS:].partition(' ')[2]}"
    return f"{key}: {said} (with {given})" if given else f"{key}: {said}"


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
    """A pattern for `name must` or `name=`; a name with an underscore is no word of prose, and stands alone."""
    behind = "" if "_" in name else "(?: must|=)"
    return rf"\b{re.escape(name)}{behind}(?!\w)"


def _by_its_value(_: str, value: object) -> str | None:
    is_telling = isinstance(value, str) and len(value) >= _LEAST_LETTERS
    return rf"(?<!\w){re.escape(str(value))}(?!\w)" if is_telling else None
