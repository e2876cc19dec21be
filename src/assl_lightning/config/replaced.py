"""Put a class of the user's own in the place of a group's: `network._target_=their.Net` on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pkgutil import resolve_name
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

_TARGET = "_target_"
_OF_DATA_SETS = ("data.source.pool", "data.source.test")
"""Keys whose value is a data set of the user's, with arguments that no file can know."""


def with_open_nodes(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, with a plus-plus before keys of a class that was named on the command line.

    Hydra refuses a key that no file has, and a file cannot know the arguments of another class; those that the class
    does not take are refused later, with the names of those that it takes.

    >>> with_open_nodes(["network._target_=their.Net", "network.depth=3", "seed=1"])
    ['++network._target_=their.Net', '++network.depth=3', 'seed=1']
    """
    parted = [override.partition("=")[::2] for override in overrides]
    named = {key.rpartition(".")[0] for key, _ in parted if key.rpartition(".")[2] == _TARGET}
    is_open = tuple(f"{node}." for node in (*named, *_OF_DATA_SETS) if node and node[0] not in "+~")
    return [
        f"++{override}" if (key.startswith(is_open) and value) or _is_node(key, value) else override
        for override, (key, value) in zip(overrides, parted, strict=True)
    ]


def _is_node(key: str, value: str) -> bool:
    """Return True for a key below a group whose value is a dictionary that names a class."""
    return "." in key and key[0] not in "+~" and value.startswith("{") and _TARGET in value


def leave_out_foreign(job: DictConfig, overrides: Sequence[str]) -> None:
    """Remove from a composed job the arguments of files that do not belong to a class that the `overrides` name.

    These are the arguments that the class does not take, unless the overrides give them. A class that takes any keyword
    keeps all arguments, except for a network: it keeps those that it names and num_classes, since others such as
    `channels` belong to this package's networks.
    """
    typed = dict(_typed(overrides))
    for key, target in typed.items():
        node_key, _, leaf = key.rpartition(".")
        node = OmegaConf.select(job, node_key) if leaf == _TARGET and node_key else None
        taken = _taken(target, is_network=node_key == "network") if isinstance(node, DictConfig) else None
        if taken is None or node is None:
            continue
        for name in [str(name) for name in node]:
            own = f"{node_key}.{name}"
            is_typed = any(other == own or other.startswith(f"{own}.") for other in typed)
            if not (name in taken or name.startswith("_") or is_typed):
                OmegaConf.set_struct(node, False)
                del node[name]


def _typed(overrides: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield each key that was given a value, and those inside of dictionaries."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException:  # which composing has reported already
        return
    for override in parsed:
        if not override.is_delete():
            yield from _leaves(override.key_or_group, override.value())


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, value


def _taken(target: object, is_network: bool) -> set[str] | None:
    """Return the names of the arguments that a class takes; None if it takes all, or they are unknown."""
    try:
        parameters = inspect.signature(resolve_name(str(target))).parameters
    except (ImportError, AttributeError, ValueError, TypeError):
        return None  # `check_arguments` says why
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if takes_any and not is_network:
        return None
    return {*parameters, "num_classes"} if takes_any else set(parameters)
