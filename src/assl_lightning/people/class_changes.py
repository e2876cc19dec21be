"""Changes of a run's classes while it waits for labels, as the command `classes` and the labelling page make them.

classes.json is written first, and is the change: a process that is killed before that has changed nothing. The files
that are written after it can be written again, by the command `classes` or by the one that resumes the run.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assl_lightning.base.atomic import write_text
from assl_lightning.base.differences import differences
from assl_lightning.base.locking import held
from assl_lightning.base.run_files import CONFIG
from assl_lightning.base.shell import command
from assl_lightning.loop.class_history import (
    KEYS,
    ClassHistory,
    as_override,
    changeable_round,
    run_classes,
    write_history,
)
from assl_lightning.loop.records import (
    COMMAND,
    KEYS_WITHOUT_EFFECT,
    PROVENANCE_KEYS,
    read_config,
    read_records,
    write_config,
)
from assl_lightning.people.batch import find_all_batches, write_classes
from assl_lightning.people.label_studio.tasks import LABEL_CONFIG, label_config


def add_class(run_dir: Path, name: str) -> ClassHistory:
    """Add a class to a run that waits for labels, after the others; the next round trains with it.

    Raises:
        ValueError: the name is taken, or differs from a class by capital letters alone; the run's data have classes of
            their own; it waits for no labels; or another process works on it.
        OSError: a file cannot be written.
    """
    with held(run_dir):
        before = require_classes(run_dir)
        alike = [known for known in before.names() if known.casefold() == name.casefold()]
        if alike:
            raise ValueError(f"{alike[0]!r} is a class already; choose it, or another name")
        after = before.add([name], require_round(run_dir))
        write_change(run_dir, before, after)
    return after


def can_change(run_dir: Path) -> bool:
    """True for a run whose configuration names its classes; False for a copy of a batch, and for data with classes."""
    try:
        return (run_dir / CONFIG).exists() and run_classes(run_dir) is not None
    except ValueError:  # the run reports it
        return False


def write_change(run_dir: Path, before: ClassHistory, after: ClassHistory) -> None:
    """Write changed classes to all files of a run that have them; the caller holds the run (`held`)."""
    if after != before:
        write_history(run_dir, after)  # the change; what follows can be written again
    _write_config(run_dir, after)
    _write_batch(run_dir)


def require_classes(run_dir: Path) -> ClassHistory:
    """Return the classes of a run; raise a ValueError if its configuration names none."""
    history = run_classes(run_dir)
    if history is None:
        raise ValueError(
            f"{run_dir / CONFIG} has no data.source.class_names: the classes of this run are those of its data set, "
            f"and cannot be changed"
        )
    return history


def require_round(run_dir: Path) -> int:
    """Return the first round that trains with other classes; raise a ValueError if the run waits for no labels."""
    number = changeable_round(run_dir)
    if number is None:
        raise ValueError(
            f"{run_dir} does not wait for labels, and a round keeps the classes that it began with; go on with the "
            f"run, and change them when it waits (see {command('status', run_dir)})"
        )
    return number


def _write_config(run_dir: Path, history: ClassHistory) -> None:
    """Write the present classes to config.yaml, and record the change there."""
    before = read_config(run_dir)
    after = with_names(before, history.names())
    changes = list(differences(before, after, (*KEYS_WITHOUT_EFFECT, *PROVENANCE_KEYS)))
    if not changes:
        return
    known = before.get("history")
    known = known if isinstance(known, dict) else {}
    note = {"complete_rounds": len(read_records(run_dir)), "changes": changes}
    noted = {**known, "changes": [*known.get("changes", []), note]}
    if isinstance(typed := known.get(COMMAND), str):
        noted[COMMAND] = with_classes(typed, history.names())
    write_config(run_dir, {**after, "history": noted})


def with_classes(typed: str, names: Sequence[str]) -> str:
    """Return the command of a run with other classes.

    >>> with_classes("python -m assl_lightning data=folder data.num_classes=3 name=x", ["ok", "bent"])
    "python -m assl_lightning data=folder name=x 'data.source.class_names=[ok,bent]' data.num_classes=2"
    """
    words = [word for word in shlex.split(typed) if not word.lstrip("+").startswith(tuple(f"{key}=" for key in KEYS))]
    return f"{shlex.join(words)} {as_override(names)} data.num_classes={len(names)}"


def with_names(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a plain configuration with other classes, and their number under every key that holds it."""
    return {key: _with_names(key, value, names) for key, value in config.items()}


def _with_names(key: str, value: Any, names: Sequence[str]) -> Any:
    if key == "data.source.class_names":
        return list(names)
    if key in KEYS:
        return len(names) if isinstance(value, int) else value
    if not isinstance(value, dict) or not any(known.startswith(f"{key}.") for known in KEYS):
        return value
    return {name: _with_names(f"{key}.{name}", below, names) for name, below in value.items()}


def _write_batch(run_dir: Path) -> None:
    """Update the files of open batches that labelling tools read: classes, and the interface of Label Studio."""
    for batch in find_all_batches(run_dir):
        if batch.is_open:
            write_classes(batch)
            if (batch.directory / LABEL_CONFIG).exists():
                write_text(batch.directory / LABEL_CONFIG, label_config(batch.class_names))
