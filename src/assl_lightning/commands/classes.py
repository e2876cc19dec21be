"""`python -m assl_lightning.classes RUN_DIR`: list, add, rename and merge a run's classes, without torch and Lightning.

Answers stay in the ledger as they were given; after a change they count as the class that theirs has become.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.locking import held
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import LEDGER, require_run
from assl_lightning.base.shell import command
from assl_lightning.base.words import first_few
from assl_lightning.data.answers import Answer
from assl_lightning.loop.class_history import ClassHistory, as_override, changeable_round
from assl_lightning.people.class_changes import require_classes, require_round, write_change
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
    require_run(run_dir)
    if not (options.add or options.rename or options.merge or options.undo):
        yield from _list(run_dir, require_classes(run_dir))
        return
    if options.undo and (options.add or options.rename or options.merge):
        raise ValueError("--undo takes the last change back; give it without --add, --rename and --merge")
    with nullcontext() if options.dry_run else held(run_dir):
        before = require_classes(run_dir)
        after, done = _changed(before, require_round(run_dir), options)
        given = [answer for answer, revoked_by in Ledger(run_dir / LEDGER).history() if revoked_by is None]
        _check_answers(given, before, after, run_dir)
        yield from done
        yield from _consequences(given, before, after, run_dir)
        if options.dry_run:
            yield _DRY
            return
        write_change(run_dir, before, after)


def _changed(before: ClassHistory, number: int, options: argparse.Namespace) -> tuple[ClassHistory, list[str]]:
    """Return the history with the requested changes, and a line for each; a change that was made before is skipped."""
    if options.undo:
        after, newest = before.undo(number), before.newest
        return after, [f"taken back: {newest}"]
    after, lines = before, []
    for name in options.add:
        if name in after.names():
            lines.append(f"so already: {name}")
            continue
        after = after.add([name], number)
        lines.append(str(after.changes[-1]))
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


def _names(text: str) -> tuple[str, ...]:
    rows = list(csv.reader([text], skipinitialspace=True))
    return tuple(name.strip() for name in rows[0]) if rows else ()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m assl_lightning.classes",
        description="List, add, rename or merge the classes of a run while it waits for labels. Answers stay as they "
        "were given, and count for the class that theirs was renamed to or merged into.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=path_argument, help="the run's directory")
    parser.add_argument("--add", metavar="NEW", action="append", default=[], help="add a class, after the others")
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
