"""`python -m assl_lightning.classes RUN_DIR`: list, rename and merge the classes of a run, without torch and Lightning.

Answers stay in the ledger as they were given; after a change they count as the class that theirs has become.
classes.json is written first, and is the change: a command that is killed before that has changed nothing. The files
that are written after it can be written again, by the same command or by the one that resumes the run.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import as_command
from assl_lightning.base.differences import differences
from assl_lightning.base.locking import held
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG, LEDGER
from assl_lightning.base.shell import command
from assl_lightning.base.words import first_few
from assl_lightning.data.answers import Answer
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
from assl_lightning.people.ledger import Ledger

_DRY = "this was a dry run: nothing was written"
_SHOWN = 5  # ids in an error


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the classes, or what was changed and what to do next."""
    lines = list(_command(_parser().parse_args(arguments)))  # all of them first: an error prints none
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def split_pair(text: str, known: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the names to the left and the name to the right of the equals sign in "a,b=c".

    If names contain equals signs too, the sign is taken that leaves `known` names to its left. A name with a comma must
    be in double quotes.

    >>> split_pair("dent,scratch=damage", ["ok", "dent", "scratch"]), split_pair("a=b=c", ["a=b"])
    ((('dent', 'scratch'), 'damage'), (('a=b',), 'c'))

    Raises:
        ValueError: there is no equals sign with names on both sides.
    """
    signs = [position for position, letter in enumerate(text) if letter == "="]
    pairs = [(_names(text[:position]), text[position + 1 :].strip()) for position in signs]
    complete = [(names, to) for names, to in pairs if all(names) and to]
    if not complete:
        raise ValueError(f"{text!r} must be OLD=NEW, or A,B=C to merge; there must be names on both sides of a =")
    return next((pair for pair in complete if set(pair[0]) <= set(known)), complete[0])


# --- commands --------------------------------------------------------------------------------------------------------


def _command(options: argparse.Namespace) -> Iterator[str]:
    """Execute the command, and yield the lines to print."""
    run_dir = options.run_dir
    if not (run_dir / CONFIG).exists():
        raise ValueError(f"{run_dir} must be the directory of a run, but has no {CONFIG}; name the run_dir of one")
    if not (options.rename or options.merge or options.undo):
        yield from _list(run_dir, _require_classes(run_dir))
        return
    if options.undo and (options.rename or options.merge):
        raise ValueError("--undo takes the last change back; give it without --rename and --merge")
    with nullcontext() if options.dry_run else held(run_dir):
        before = _require_classes(run_dir)
        after, done = _changed(before, _require_round(run_dir), options)
        given = [answer for answer, revoked_by in Ledger(run_dir / LEDGER).history() if revoked_by is None]
        _check_answers(given, before, after, run_dir)
        yield from done
        yield from _consequences(given, before, after, run_dir)
        if options.dry_run:
            yield _DRY
            return
        if after != before:
            write_history(run_dir, after)  # the change; what follows can be written again
        _write_config(run_dir, after)
        _write_batch(run_dir)


def _changed(before: ClassHistory, number: int, options: argparse.Namespace) -> tuple[ClassHistory, list[str]]:
    """Return the history with the requested changes, and a line for each; a change that was made before is skipped."""
    if options.undo:
        after, newest = before.undo(number), before.newest
        return after, [f"taken back: {newest}"]
    after, lines = before, []
    requested: list[tuple[str, Callable[[ClassHistory, tuple[str, ...], str], ClassHistory]]] = [
        *((text, _renamed(number)) for text in options.rename),
        *((text, lambda history, names, to: history.merge(names, to, number)) for text in options.merge),
    ]
    for text, change in requested:
        names, to = split_pair(text, (*after.names(), *after.former))
        if to in after.names() and all(after.former.get(name, name) == to for name in names):
            lines.append(f"so already: {text}")
            continue
        after = change(after, names, to)
        lines.append(str(after.changes[-1]))
    return after, lines


def _renamed(number: int) -> Callable[[ClassHistory, tuple[str, ...], str], ClassHistory]:
    def rename(history: ClassHistory, names: tuple[str, ...], to: str) -> ClassHistory:
        if len(names) != 1:
            raise ValueError(f"one class is renamed at a time; to make one of {', '.join(names)}, give --merge")
        return history.rename(names[0], to, number)

    return rename


def _require_classes(run_dir: Path) -> ClassHistory:
    history = run_classes(run_dir)
    if history is None:
        raise ValueError(
            f"{run_dir / CONFIG} has no data.source.class_names: the classes of this run are those of its data set, "
            f"and cannot be renamed"
        )
    return history


def _require_round(run_dir: Path) -> int:
    number = changeable_round(run_dir)
    if number is None:
        raise ValueError(
            f"{run_dir} does not wait for labels, and a round keeps the classes that it began with; go on with the "
            f"run, and rename or merge when it waits (see {command('status', run_dir)})"
        )
    return number


def _check_answers(given: Sequence[Answer], before: ClassHistory, after: ClassHistory, run_dir: Path) -> None:
    """Raise if an answer would lose its class, as when a merge is undone after answers with the merged class."""
    lost = [
        answer
        for answer in given
        if answer.label is not None
        and before.resolve(answer.label) in before.names()
        and after.resolve(answer.label) not in after.names()
    ]
    if lost:
        ids = [str(answer.id) for answer in lost]
        raise ValueError(
            f"answers with the label {lost[0].label} would have no class ({len(ids)}: {first_few(ids, _SHOWN)}); take "
            f"them back first, with {command('ingest', run_dir, '--undo', *ids)}, and label their images again"
        )


def _consequences(given: Sequence[Answer], before: ClassHistory, after: ClassHistory, run_dir: Path) -> Iterator[str]:
    labels = [answer.label for answer in given if answer.label is not None]
    moved = Counter((old, new) for label in labels if (old := before.resolve(label)) != (new := after.resolve(label)))
    for (old, new), count in moved.items():
        yield f"  {f'{count:,} answers {old} count' if count > 1 else f'1 answer {old} counts'} as {new}"
    names = after.names()
    yield f"  classes from round {changeable_round(run_dir)} on: {', '.join(names)}"
    yield f"from now on the run's command has {as_override(names)} data.num_classes={len(names)}"


def _list(run_dir: Path, history: ClassHistory) -> Iterator[str]:
    yield f"{run_dir}: {len(history.names())} classes, {', '.join(history.names())}"
    for change in history.changes:
        yield f"  from round {change.round} on: {change}" + (f" ({change.at})" if change.at else "")
    for name, now in history.former.items():
        yield f"  answers with the label {name} count as {now}"


# --- files -----------------------------------------------------------------------------------------------------------


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


def _names(text: str) -> tuple[str, ...]:
    rows = list(csv.reader([text], skipinitialspace=True))
    return tuple(name.strip() for name in rows[0]) if rows else ()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m assl_lightning.classes",
        description="List, rename or merge the classes of a run while it waits for labels. Answers stay as they were "
        "given, and count as the class that theirs has become. To add a class, append it to data.source.class_names in "
        "the run's own command.",
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=path_argument, help="the run's directory")
    parser.add_argument("--rename", metavar="OLD=NEW", action="append", default=[], help="give a class another name")
    parser.add_argument(
        "--merge",
        metavar="A,B=C",
        action="append",
        default=[],
        help="make one class of several, under a new name or that of one of them; a name with a comma: '\"a, b\",c=d'",
    )
    parser.add_argument(
        "--undo", action="store_true", help="take back the newest renaming or merge that was not taken back yet"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, and write nothing")
    return parser
