"""`python -m assl_lightning.classes RUN_DIR`: a run's classes, renaming and merging them, without torch and Lightning.

What was answered stays in the ledger as it was given; from the change on it counts as the class that its own became.
The first file that is written, classes.json, is the change: a call that is killed before has changed nothing, and what
is left to write behind it is written by the same call again, or by the command that goes on with the run.
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
from assl_lightning.people.batch import find_batches, write_classes
from assl_lightning.people.label_studio.tasks import LABEL_CONFIG, label_config
from assl_lightning.people.ledger import Ledger

_DRY = "this was a dry run: nothing was written"
_SHOWN = 5  # ids that an error names


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the classes, or what was changed and what to do next."""
    lines = list(_command(_parser().parse_args(arguments)))  # nothing is printed where something is wrong
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def split_pair(text: str, known: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The names to the left and the name to the right of the equals sign of "a,b=c".

    Where names have such a sign themselves, the one is taken that leaves `known` names to the left. A name with a comma
    is written in double quotes.

    >>> split_pair("dent,scratch=damage", ["ok", "dent", "scratch"]), split_pair("a=b=c", ["a=b"])
    ((('dent', 'scratch'), 'damage'), (('a=b',), 'c'))

    Raises:
        ValueError: there is no equals sign, or nothing beside it.
    """
    places = [place for place, letter in enumerate(text) if letter == "="]
    found = [(_names(text[:place]), text[place + 1 :].strip()) for place in places]
    whole = [(names, to) for names, to in found if all(names) and to]
    if not whole:
        raise ValueError(f"{text!r} must be OLD=NEW, or A,B=C to merge; there must be names on both sides of a =")
    return next((pair for pair in whole if set(pair[0]) <= set(known)), whole[0])


# --- commands --------------------------------------------------------------------------------------------------------


def _command(options: argparse.Namespace) -> Iterator[str]:
    """Carry the command out, and yield the lines to print."""
    run_dir = options.run_dir
    if not (run_dir / CONFIG).exists():
        raise ValueError(f"{run_dir} must be the directory of a run, but has no {CONFIG}; name the run_dir of one")
    if not (options.rename or options.merge or options.undo):
        yield from _list(run_dir, _require_classes(run_dir))
        return
    if options.undo and (options.rename or options.merge):
        raise ValueError("--undo takes back what was done; give it without --rename and --merge")
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
    """The history with what is asked for, and a line for each change; what is so already is not done again."""
    if options.undo:
        after, newest = before.undo(number), before.newest
        return after, [f"taken back: {newest}"]
    after, lines = before, []
    wishes: list[tuple[str, Callable[[ClassHistory, tuple[str, ...], str], ClassHistory]]] = [
        *((text, _renamed(number)) for text in options.rename),
        *((text, lambda history, names, to: history.merge(names, to, number)) for text in options.merge),
    ]
    for text, change in wishes:
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
            f"{run_dir / CONFIG} names no classes (data.source.class_names), so that none can be renamed: this run has "
            f"those of its data set"
        )
    return history


def _require_round(run_dir: Path) -> int:
    number = changeable_round(run_dir)
    if number is None:
        raise ValueError(
            f"{run_dir} waits for no labels, and a round keeps the classes that it began with; go on with the run, and "
            f"rename or merge when it waits ({command('status', run_dir)} tells where it is)"
        )
    return number


def _check_answers(given: Sequence[Answer], before: ClassHistory, after: ClassHistory, run_dir: Path) -> None:
    """No answer may lose its class: that happens where a merge is taken back after its own name was answered."""
    lost = [
        one
        for one in given
        if one.label is not None
        and before.resolve(one.label) in before.names()
        and after.resolve(one.label) not in after.names()
    ]
    if lost:
        ids = [str(one.id) for one in lost]
        raise ValueError(
            f"answers that say {lost[0].label} would have no class ({len(ids)}: {first_few(ids, _SHOWN)}); take "
            f"them back first, with {command('ingest', run_dir, '--undo', *ids)}, and ask for their "
            f"images again"
        )


def _consequences(given: Sequence[Answer], before: ClassHistory, after: ClassHistory, run_dir: Path) -> Iterator[str]:
    labels = [one.label for one in given if one.label is not None]
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
        yield f"  answers that say {name} count as {now}"


# --- files -----------------------------------------------------------------------------------------------------------


def _write_config(run_dir: Path, history: ClassHistory) -> None:
    """Let config.yaml ask for the classes that the run has now, and note what is different."""
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
    """A run's command that asks for these classes, and for no others.

    >>> with_classes("python -m assl_lightning data=folder data.num_classes=3 name=x", ["ok", "bent"])
    "python -m assl_lightning data=folder name=x 'data.source.class_names=[ok,bent]' data.num_classes=2"
    """
    words = [word for word in shlex.split(typed) if not word.lstrip("+").startswith(tuple(f"{key}=" for key in KEYS))]
    return f"{shlex.join(words)} {as_override(names)} data.num_classes={len(names)}"


def with_names(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A copy of a plain configuration with other classes, and with their number under every key that holds it."""
    return {key: _with_names(key, value, names) for key, value in config.items()}


def _with_names(key: str, value: Any, names: Sequence[str]) -> Any:
    if key == "data.source.class_names":
        return list(names)
    if key in KEYS:
        return len(names) if isinstance(value, int) else value
    if not isinstance(value, dict) or not any(one.startswith(f"{key}.") for one in KEYS):
        return value
    return {name: _with_names(f"{key}.{name}", below, names) for name, below in value.items()}


def _write_batch(run_dir: Path) -> None:
    """Update the files of the open batch that labelling tools read: the classes, and Label Studio's interface."""
    for batch in find_batches(run_dir):
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
        description="List a run's classes, rename or merge them, while the run waits for labels. Answers stay as they "
        "were given, and count as what their class has become. A class that is new is added by the run's own command, "
        "at the end of data.source.class_names.",
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
    parser.add_argument("--undo", action="store_true", help="take back the newest renaming or merge that stands")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, and write nothing")
    return parser
