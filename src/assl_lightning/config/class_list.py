"""The classes of a configuration for a run that has begun: the run's own, and those that join."""

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
    """The classes that a configuration asks for: those of the next round, and those that join later."""

    config: Config  # with the classes of the next round: the run's, and those that join now
    later: tuple[str, ...] = ()  # those that join when the run waits for labels


def plan_classes(config: Config, read_names: Callable[[Config], Sequence[str]]) -> PlannedClasses:
    """Plan the classes of a run that goes on; a new run, or one whose classes have no names, keeps `config` as it is.

    Classes that are new join at the end of the list: now if the run waits for labels, later if a round is being
    trained. If `config` names no classes, they are the run's; with a larger data.num_classes, the classes of the data
    that the run lacks join.

    Args:
        config: the configuration that was given.
        read_names: reads the present classes of the data, in their order.

    Raises:
        ConfigurationError: a class of the run is missing, renamed or at another position, or data.num_classes differs.
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
        asked = _unnamed_classes(config, history, read_names)
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
    """Return the `error` of reading the data of a run, with advice if the data have a class that the run lacks.

    `config` is the configuration that was given; if it names the classes, the error stays as it is.
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
    hint = f"a new class joins with data.num_classes={len(history.names()) + len(new)}"
    return ConfigurationError([*error.lines[:-1], f"{error.lines[-1]}; {hint}"])


def source_node(config: Config, later: Sequence[str] = ()) -> tuple[dict[str, Any], ClassHistory | None]:
    """Return the node to load the data from, and the history that maps their classes; None if they need no mapping.

    The data may still have the former names of classes, and those that join `later`.
    """
    node = config.data.source
    history = run_classes(Path(config.run_dir)) if node.get("class_names") else None
    if history is None or not (history.former or later):
        return node, None
    named = [str(name) for name in (*history.given, *node["class_names"], *later, *history.former)]
    return {**node, "class_names": list(dict.fromkeys(named))}, history


def _unnamed_classes(
    config: Config, history: ClassHistory, read_names: Callable[[Config], Sequence[str]]
) -> Sequence[str]:
    """Return the classes of a configuration without class names: as many as data.num_classes."""
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
    """Return the configuration with other classes, and with their number under every key that has it."""
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
