"""The classes of a configuration, in sight of the run that it goes on with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assl_lightning.base.shell import command
from assl_lightning.config.schema import Config, ConfigurationError
from assl_lightning.config.values import show
from assl_lightning.data.class_names import read_class_names
from assl_lightning.loop.class_history import ClassHistory, changeable_round, run_classes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedClasses:
    """The classes that a configuration asks for: those of the round to come, and those that join later."""

    config: Config  # with the classes of the round to come, which are the run's and those that join now
    later: tuple[str, ...] = ()  # also asked for; they join when the run waits for labels


def plan_classes(config: Config, read_names: Callable[[Config], Sequence[str]]) -> PlannedClasses:
    """The classes that a run goes on with, where its directory holds one whose classes have names.

    New ones at the end join where labels are waited for; while a round trains, they are for later. A list that was left
    open is the run's, and with a larger data.num_classes also those that the data have besides.

    Args:
        config: as it was asked for.
        read_names: reads the classes of the data as they are now, in their order.

    Raises:
        ConfigurationError: a class is missing, renamed or in another place, or the number of classes is another.
    """
    run_dir = Path(config.run_dir)
    try:
        history = run_classes(run_dir)
        to_come = None if history is None else changeable_round(run_dir)
    except ValueError as error:
        raise ConfigurationError(f"{show('run_dir', config.run_dir)}: {error}") from error
    if history is None or "class_names" not in config.data.source:
        return PlannedClasses(config)
    asked = config.data.source["class_names"]
    if asked is None:
        asked = _opened(config, history, read_names)
    try:
        joining = history.joining(read_class_names(asked), run_dir)
    except ValueError as error:
        raise ConfigurationError(
            f"{show('data.source.class_names', asked)}: {error}; or choose another run_dir than {config.run_dir}"
        ) from error
    if not joining or to_come is not None:
        return PlannedClasses(with_class_names(config, [*history.names(), *joining]))
    log.warning(
        "classes that are new: %s; the round under way keeps its %s, and they join when labels are waited for",
        ", ".join(joining),
        len(history.names()),
    )
    return PlannedClasses(with_class_names(config, history.names()), joining)


def explained(
    error: ConfigurationError, config: Config, read_names: Callable[[Config], Sequence[str]]
) -> ConfigurationError:
    """The `error` of reading the data of a run, with what to do where they have a class that has come since.

    `config` is as it was asked for; where it names the classes, nothing is added.
    """
    history = run_classes(Path(config.run_dir))
    if history is None or config.data.source.get("class_names") is not None:
        return error
    try:
        new = {*read_names(config)} - {*history.names(), *history.former}
    except ConfigurationError:  # something else is wrong
        return error
    if not new:
        return error
    hint = f"a class that has come since joins with data.num_classes={len(history.names()) + len(new)}"
    return ConfigurationError([*error.lines[:-1], f"{error.lines[-1]}; {hint}"])


def source_node(config: Config, later: Sequence[str] = ()) -> tuple[dict[str, Any], ClassHistory | None]:
    """The data's node to build, and what its classes are to be mapped by; None where they are the run's as they come.

    The data may still have the names that classes had before, and those that join `later`.
    """
    node = config.data.source
    history = run_classes(Path(config.run_dir)) if node.get("class_names") else None
    if history is None or not (history.former or later):
        return node, None
    named = [str(name) for name in (*history.given, *node["class_names"], *later, *history.former)]
    return {**node, "class_names": list(dict.fromkeys(named))}, history


def _opened(config: Config, history: ClassHistory, read_names: Callable[[Config], Sequence[str]]) -> Sequence[str]:
    """The classes where the list was left open: as many as data.num_classes says."""
    names, wanted = history.names(), config.data.num_classes
    if wanted == len(names):
        return names
    new = [name for name in read_names(config) if name not in {*names, *history.former}] if wanted > len(names) else []
    if wanted == len(names) + len(new):
        return [*names, *new]
    others = f", and the data have {', '.join(new)} besides: say which with data.source.class_names" if new else ""
    merge = "" if wanted > len(names) else f"; to merge some, {command('classes', Path(config.run_dir))} --merge A,B=C"
    raise ConfigurationError(
        f"{show('data.num_classes', wanted)}: the run has {len(names)} classes, {', '.join(names)}{others}{merge}"
    )


def with_class_names(config: Config, names: Sequence[str]) -> Config:
    """The configuration with other classes, and with their number under every key that holds it."""
    before, count = config.data.num_classes, len(names)

    def counted(node: dict[str, Any]) -> dict[str, Any]:
        return {**node, "num_classes": count} if node.get("num_classes") == before else node

    source = {**counted(config.data.source), "class_names": list(names)}
    return replace(
        config,
        data=replace(config.data, num_classes=count, source=source),
        network=counted(config.network),
        oracle=counted(config.oracle),
    )
