"""The classes of a run in each round, and the present class of an answer that was given at any time.

`<run_dir>/classes.json` lists the changes in their order. It is written with the first change and only grows; until
then a run has the classes of its config.yaml. A change belongs to the first round that trains with it; the run waited
for that round's labels when the change was made. Files keep the labels that were given: the ledger is read through
`ClassHistory.resolve`, and the labels in a pool.pt through `ClassHistory.present_labels`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

import yaml  # type: ignore[import-untyped]

from assl_lightning.base.arguments import is_integer
from assl_lightning.base.atomic import write_text
from assl_lightning.base.run_files import CLASS_CHANGES, CONFIG, POOL, round_directory
from assl_lightning.base.shell import command, quote
from assl_lightning.base.words import one_line
from assl_lightning.data.class_names import read_class_names
from assl_lightning.loop.records import RoundRecord, read_config, read_state, round_under_way

KEYS = (
    *("data.num_classes", "data.source.class_names", "data.source.num_classes"),
    *("network.num_classes", "oracle.num_classes"),
)
"""Keys of a configuration that hold a run's classes or their number."""

Kind = Literal["begin", "add", "rename", "merge", "undo"]

_FORMAT = 1


@dataclass(frozen=True)
class Change:
    """One change of a run's classes."""

    kind: Kind
    names: tuple[str, ...] = ()  # begin: all classes; add: the new ones; rename, merge: the ones that end
    to: str | None = None  # rename, merge: the class that they become
    round: int = 0  # the first round that trains with the change
    at: str | None = None  # the time of the change, ISO 8601 in UTC

    def __str__(self) -> str:
        """Describe the change, as in "crack added" or "dent renamed to bump"."""
        names = " and ".join(self.names)
        words = {
            "begin": f"{', '.join(self.names)} at first",
            "add": f"{names} added",
            "rename": f"{names} renamed to {self.to}",
            "merge": f"{names} merged as {self.to}",
            "undo": "the change before was taken back",
        }
        return words[self.kind]


@dataclass(frozen=True)
class ClassHistory:
    """All changes of a run's classes, in their order; the first is of the kind "begin". No method changes the history.

    >>> history = ClassHistory.begin(["ok", "dent", "scratch"]).add(["crack"], 2).merge(["dent", "crack"], "damage", 3)
    >>> history.names(0), history.names(2), history.names()
    (('ok', 'dent', 'scratch'), ('ok', 'dent', 'scratch', 'crack'), ('ok', 'damage', 'scratch'))
    >>> history.resolve("crack"), history.present_labels(2)
    ('damage', (0, 1, 2, 1))
    """

    changes: tuple[Change, ...]

    @staticmethod
    def begin(names: Sequence[str]) -> ClassHistory:
        """Make the history of classes that have not changed yet."""
        return ClassHistory((Change("begin", tuple(names)),))

    # ---- looking

    def names(self, round_number: int | None = None) -> tuple[str, ...]:
        """Return the classes of a round (None: of the next round) in the order of their labels."""
        names: list[str] = []
        for change in (self.changes[index] for index in self._active(round_number)):
            if change.kind in ("rename", "merge"):
                assert change.to is not None
                label = min(names.index(name) for name in change.names)
                names = [name for name in names if name not in change.names]
                names.insert(label, change.to)
            else:
                names += change.names
        return tuple(names)

    def resolve(self, name: str) -> str:
        """Return the present class of an answer with this name; the name itself where it was never a class."""
        active = self._active()
        for index, change in enumerate(self.changes):
            if change.kind in ("rename", "merge") and change.to is not None:
                if index in active and name in change.names:
                    name = change.to
                elif index not in active and change.kind == "rename" and name == change.to:
                    (name,) = change.names  # the class had the name `to` until the renaming was taken back
        return name

    @property
    def former(self) -> Mapping[str, str]:
        """The names of former classes, each with its present class."""
        now = self.names()
        known = [name for change in self.changes for name in (*change.names, change.to) if name is not None]
        return {name: self.resolve(name) for name in known if name not in now and self.resolve(name) in now}

    @property
    def given(self) -> tuple[str, ...]:
        """All names that the data can have: those at the beginning and those that were added, in their order."""
        return tuple(name for change in self.changes if change.kind in ("begin", "add") for name in change.names)

    def present_labels(self, round_number: int) -> tuple[int | None, ...]:
        """Return the present label of each class of a round, in the order of that round's labels.

        It is None where a merge was taken back since: a sample of that class may now be of any of several.
        """
        now, active = self.names(), self._active()
        split = {
            self._resolve_until(round_number, str(self.changes[index].to))
            for index in self._active(round_number)
            if self.changes[index].kind == "merge" and index not in active
        }
        found = [None if name in split else self.resolve(name) for name in self.names(round_number)]
        return tuple(now.index(name) if name in now else None for name in found)

    def since(self, name: str) -> int:
        """Return the first round that trains with the class `name`."""
        rounds = {change.round for change in self.changes}
        return min(number for number in rounds if name in self.names(number))

    # ---- changing

    def joining(self, asked: Sequence[str], run_dir: Path) -> tuple[str, ...]:
        """Return the new classes at the end of the `asked` ones; () where the run in `run_dir` has exactly these.

        Raises:
            ValueError: other classes differ, or a new name was the name of another class before.
        """
        now, asked = self.names(), tuple(asked)
        if asked[: len(now)] != now or len(set(asked)) != len(asked):
            advice = self._advice(asked, run_dir)
            raise ValueError(f"the run's classes are {_listed(now)}, but {_listed(asked)} were asked for; {advice}")
        new = asked[len(now) :]
        for name in new:
            self._check_new(name)
        return new

    def add(self, names: Sequence[str], round_number: int) -> ClassHistory:
        """Add classes at the end, from a round on."""
        for name in names:
            self._check_new(name)
        return self._with(Change("add", tuple(names), round=round_number))

    def rename(self, name: str, to: str, round_number: int) -> ClassHistory:
        """Rename a class, from a round on; it keeps its label.

        Raises:
            ValueError: there is no such class, or the new name is taken.
        """
        self._check_known(name)
        if to in self.names():
            raise ValueError(f"{to} is a class already; to make one class of the two, give --merge {name},{to}={to}")
        self._check_new(to, instead_of=name)
        return self._with(Change("rename", (name,), to, round_number))

    def merge(self, names: Sequence[str], to: str, round_number: int) -> ClassHistory:
        """Merge several classes into one, from a round on, with the label of the first of them.

        Raises:
            ValueError: a name is no class, they are fewer than two, the new name is taken, or one class would be left.
        """
        for name in names:
            self._check_known(name)
        now = self.names()
        if len(set(names)) < 2:
            raise ValueError(f"a merge needs two classes, each once; got {_listed(names)}")
        if to in now and to not in names:
            raise ValueError(f"{to} is a class already; name it among those to merge: {','.join((*names, to))}={to}")
        if to not in now:
            self._check_new(to, instead_of=names[0])
        if len(now) - len(names) < 1:
            raise ValueError(f"a merge must leave at least two classes; {_listed(names)} are all")
        return self._with(Change("merge", tuple(names), to, round_number))

    def undo(self, round_number: int) -> ClassHistory:
        """Take back the newest renaming or merge, from a round on.

        Raises:
            ValueError: there is none to take back.
        """
        if self.newest is None:
            raise ValueError("no class was renamed or merged, so that there is nothing to take back")
        return self._with(Change("undo", round=round_number))

    @property
    def newest(self) -> Change | None:
        """The newest renaming or merge that was not taken back; None where there is none. `undo` takes it back."""
        found = [self.changes[index] for index in self._active()]
        return next((change for change in reversed(found) if change.kind in ("rename", "merge")), None)

    def _active(self, round_number: int | None = None) -> list[int]:
        """Return the indices of the changes up to a round that are in force in it."""
        active: list[int] = []
        for index, change in enumerate(self.changes):
            if round_number is not None and change.round > round_number:
                break
            if change.kind != "undo":
                active.append(index)
            else:
                active.remove(max(other for other in active if self.changes[other].kind in ("rename", "merge")))
        return active

    def _resolve_until(self, round_number: int, name: str) -> str:
        kept = tuple(change for change in self.changes if change.round <= round_number)
        return replace(self, changes=kept).resolve(name)

    def _advice(self, asked: Sequence[str], run_dir: Path) -> str:
        """Advise a user who asked for other classes than the run has."""
        now, former = self.names(), self.former
        gone, new = [name for name in now if name not in asked], [name for name in asked if name not in now]
        outdated = [name for name in asked if name in former]
        if outdated:
            return f"{outdated[0]} is {former[outdated[0]]} since: ask for {as_override(now)}"
        if not gone:
            return f"a class that is new goes to the end: ask for {as_override([*now, *new])}"
        if not new:
            missing, pronoun = (f"{gone[0]} is", "it") if len(gone) == 1 else (f"{', '.join(gone)} are", "one")
            return (
                f"{missing} missing: ask for {as_override(now)}; to take {pronoun} away, merge it into another with "
                f"{command('classes', run_dir)} --merge A,B=C"
            )
        if len(gone) == len(new) == 1:
            return f"to rename one, {command('classes', run_dir, '--rename', f'{gone[0]}={new[0]}')}"
        return f"to rename and merge some, {command('classes', run_dir)} --rename OLD=NEW and --merge A,B=C"

    def _with(self, change: Change) -> ClassHistory:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return replace(self, changes=(*self.changes, replace(change, at=now)))

    def _check_known(self, name: str) -> None:
        if name not in self.names():
            was = f" any more, it is {self.resolve(name)} now" if name in self.former else ""
            raise ValueError(f"{name!r} is no class{was}; the classes are {_listed(self.names())}")

    def _check_new(self, name: str, instead_of: str | None = None) -> None:
        """Raise for a new name that would change the class of old answers."""
        read_class_names([*(known for known in self.names() if known != instead_of), name])
        if name in self.former and self.former[name] != instead_of:
            raise ValueError(
                f"{name} was a class before, and answers with this name count as {self.former[name]} now; choose "
                f"another name, or take the change back with --undo"
            )


# --- in a run's directory ---------------------------------------------------------------------------------------------


def read_history(run_dir: Path) -> ClassHistory | None:
    """Read the history in classes.json; None where there is no such file, because no class has changed.

    Raises:
        ValueError: the file cannot be read.
    """
    path = run_dir / CLASS_CHANGES
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        history = _history_of(content)
        for change in history.changes:
            history.names(change.round)
    except (ValueError, OSError, RecursionError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"{path} does not hold the classes of a run ({one_line(error)}); restore it") from None
    return history


def present_answers(history: ClassHistory | None, record: RoundRecord) -> list[int]:
    """Return the answers to a round's query, in pick order, as numbers of present classes; −1 is no answer.

    The numbers in a record are those of the classes of the next round, which trains on the answers.
    """
    if history is None:
        return list(record.queried_labels)
    present = history.present_labels(record.round + 1)
    numbers = [present[label] if 0 <= label < len(present) else None for label in record.queried_labels]
    return [-1 if number is None else number for number in numbers]


def run_classes(run_dir: Path) -> ClassHistory | None:
    """Read the classes of the run in a directory; None where there is no run, or its configuration names none.

    Raises:
        ValueError: a file cannot be read.
    """
    history = read_history(run_dir)
    if history is not None or not (run_dir / CONFIG).exists():
        return history
    names = named_classes(read_config(run_dir))
    return None if names is None else ClassHistory.begin(names)


def named_classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return data.source.class_names of a plain configuration; None where it names none."""
    data = config.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    names = source.get("class_names") if isinstance(source, Mapping) else None
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) and names else None


def write_history(run_dir: Path, history: ClassHistory) -> None:
    """Write the history in one piece; this makes its last change."""
    changes = [
        {key: value for key, value in vars(change).items() if value not in (None, ())} for change in history.changes
    ]
    write_text(
        run_dir / CLASS_CHANGES, json.dumps({"format": _FORMAT, "changes": changes}, indent=1, ensure_ascii=False)
    )


def changeable_round(run_dir: Path) -> int | None:
    """Return the first round that would train with other classes; None while a round trains, or none is to come.

    It is the round whose labels are waited for, and round 0 in a run that has just begun.
    """
    if not (round_directory(run_dir, 0) / POOL).exists():
        return 0
    number = round_under_way(run_dir)
    return number + 1 if read_state(run_dir, number)[0] == "waiting" else None


def as_override(names: Sequence[str]) -> str:
    """Write the classes as an argument of the run's command, quoted for Hydra and a shell where necessary.

    >>> print(as_override(["ok", "yes", "a, b"]))
    'data.source.class_names=[ok,"yes","a, b"]'
    """
    return shlex.quote(f"data.source.class_names=[{','.join(map(_for_hydra, names))}]")


def _for_hydra(name: str) -> str:
    """Write a list's item so that Hydra reads it as the text `name`."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) and yaml.safe_load(name) == name:
        return name
    return quote(name, '"')


def _history_of(content: Any) -> ClassHistory:
    if content["format"] != _FORMAT:
        raise ValueError(f"its format must be {_FORMAT}")
    changes = tuple(map(_change_of, content["changes"]))
    rounds = [change.round for change in changes]
    if [index for index, change in enumerate(changes) if change.kind == "begin"] != [0] or len(changes[0].names) < 2:
        raise ValueError("the first change, and no other, must begin with two classes or more")
    if rounds != sorted(rounds):
        raise ValueError(f"changes must be in the order of their rounds; got those of {rounds}")
    return ClassHistory(changes)


def _change_of(content: Mapping[str, Any]) -> Change:
    kind, names, to = content["kind"], content.get("names", []), content.get("to")
    texts = [*names, *([to] if to is not None else [])]
    if kind not in get_args(Kind) or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"a change must be one of {', '.join(get_args(Kind))}, of classes; got {dict(content)}")
    round_number = content.get("round", 0)
    if not is_integer(round_number, 0):
        raise ValueError(f"the round of a change must be an integer of at least 0; got {round_number!r}")
    return Change(kind, tuple(names), to, round_number, content.get("at"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
