"""The classes of a run, round by round, and the class that an answer of any time counts as now.

`<run_dir>/classes.json` lists the changes in the order in which they were made. It is written with the first of them
and only grows; until then a run has the classes of its config.yaml. Each change is of a round: the first that trains
with it, whose labels were waited for when it was made. Labels in files keep the names that they were given: the ledger
of a run is read through `ClassHistory.resolve`, and the numbers in a pool.pt through `ClassHistory.places`.
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
from assl_lightning.loop.records import read_config, read_state, round_under_way

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
    names: tuple[str, ...] = ()  # begin: all classes; add: the new ones; rename, merge: those that go
    to: str | None = None  # rename, merge: the class that they become
    round: int = 0  # the first that trains with it
    at: str | None = None  # when it was made, ISO 8601 in UTC

    def __str__(self) -> str:
        """The change in words, such as "crack added" or "dent renamed to bump"."""
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
    """All changes of a run's classes, in their order; the first one begins. No method changes it.

    >>> history = ClassHistory.begin(["ok", "dent", "scratch"]).add(["crack"], 2).merge(["dent", "crack"], "damage", 3)
    >>> history.names(0), history.names(2), history.names()
    (('ok', 'dent', 'scratch'), ('ok', 'dent', 'scratch', 'crack'), ('ok', 'damage', 'scratch'))
    >>> history.resolve("crack"), history.places(2)
    ('damage', (0, 1, 2, 1))
    """

    changes: tuple[Change, ...]

    @staticmethod
    def begin(names: Sequence[str]) -> ClassHistory:
        """Classes that have not changed yet."""
        return ClassHistory((Change("begin", tuple(names)),))

    # ---- looking

    def names(self, round_number: int | None = None) -> tuple[str, ...]:
        """The classes of a round, in the order of their labels; None: those of the round to come."""
        names: list[str] = []
        for change in (self.changes[place] for place in self._standing(round_number)):
            if change.kind in ("rename", "merge"):
                assert change.to is not None
                place = min(names.index(name) for name in change.names)
                names = [name for name in names if name not in change.names]
                names.insert(place, change.to)
            else:
                names += change.names
        return tuple(names)

    def resolve(self, name: str) -> str:
        """The class that an answer with this name counts as now, whenever it was given; else the name itself."""
        standing = self._standing()
        for place, change in enumerate(self.changes):
            if change.kind in ("rename", "merge") and change.to is not None:
                if place in standing and name in change.names:
                    name = change.to
                elif place not in standing and change.kind == "rename" and name == change.to:
                    (name,) = change.names  # which it was called in between
        return name

    @property
    def former(self) -> Mapping[str, str]:
        """Names that were classes and are none any more, each with the class that it counts as now."""
        now = self.names()
        known = [name for change in self.changes for name in (*change.names, change.to) if name is not None]
        return {name: self.resolve(name) for name in known if name not in now and self.resolve(name) in now}

    @property
    def given(self) -> tuple[str, ...]:
        """All names that data can have: those that the run began with and those that were added, in their order."""
        return tuple(name for change in self.changes if change.kind in ("begin", "add") for name in change.names)

    def places(self, round_number: int) -> tuple[int | None, ...]:
        """The place of each class of a round among the present classes.

        None where a merge was taken back since: a label with its name may now be of any of several classes.
        """
        now, standing = self.names(), self._standing()
        split = {
            self._resolve_until(round_number, str(self.changes[place].to))
            for place in self._standing(round_number)
            if self.changes[place].kind == "merge" and place not in standing
        }
        found = [None if name in split else self.resolve(name) for name in self.names(round_number)]
        return tuple(now.index(name) if name in now else None for name in found)

    def since(self, name: str) -> int:
        """The first round that trains with the class `name`."""
        rounds = {change.round for change in self.changes}
        return min(number for number in rounds if name in self.names(number))

    # ---- changing

    def joining(self, asked: Sequence[str], run_dir: Path) -> tuple[str, ...]:
        """The new classes, at the end of those that are `asked` for; () where these are the run's in `run_dir`.

        Raises:
            ValueError: anything else is different, or a new name was that of another class before.
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
        """With new classes at the end, from a round on."""
        for name in names:
            self._check_new(name)
        return self._with(Change("add", tuple(names), round=round_number))

    def rename(self, name: str, to: str, round_number: int) -> ClassHistory:
        """With a class under another name, from a round on; it keeps its place.

        Raises:
            ValueError: there is no such class, or the new name is taken.
        """
        self._check_known(name)
        if to in self.names():
            raise ValueError(f"{to} is a class already; to make one class of the two, give --merge {name},{to}={to}")
        self._check_new(to, instead_of=name)
        return self._with(Change("rename", (name,), to, round_number))

    def merge(self, names: Sequence[str], to: str, round_number: int) -> ClassHistory:
        """With several classes as one, from a round on, at the place of the first of them.

        Raises:
            ValueError: one is no class, they are fewer than two, the new name is taken, or one class would be left.
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
            raise ValueError(f"two classes must be left to tell apart; {_listed(names)} are all that there are")
        return self._with(Change("merge", tuple(names), to, round_number))

    def undo(self, round_number: int) -> ClassHistory:
        """Without the newest renaming or merge that stands, from a round on.

        Raises:
            ValueError: there is none.
        """
        if self.newest is None:
            raise ValueError("no class was renamed or merged, so that there is nothing to take back")
        return self._with(Change("undo", round=round_number))

    @property
    def newest(self) -> Change | None:
        """The newest renaming or merge that stands, which `undo` takes back; None where there is none."""
        found = [self.changes[place] for place in self._standing()]
        return next((change for change in reversed(found) if change.kind in ("rename", "merge")), None)

    def _standing(self, round_number: int | None = None) -> list[int]:
        """The places of the changes up to a round that were not taken back by then."""
        standing: list[int] = []
        for place, change in enumerate(self.changes):
            if round_number is not None and change.round > round_number:
                break
            if change.kind != "undo":
                standing.append(place)
            else:
                standing.remove(max(one for one in standing if self.changes[one].kind in ("rename", "merge")))
        return standing

    def _resolve_until(self, round_number: int, name: str) -> str:
        kept = tuple(change for change in self.changes if change.round <= round_number)
        return replace(self, changes=kept).resolve(name)

    def _advice(self, asked: Sequence[str], run_dir: Path) -> str:
        """Advice to a user who asked for other classes than the run has."""
        now, former = self.names(), self.former
        gone, new = ([name for name in one if name not in other] for one, other in ((now, asked), (asked, now)))
        outdated = [name for name in asked if name in former]
        if outdated:
            return f"{outdated[0]} is {former[outdated[0]]} since: ask for {as_override(now)}"
        if not gone:
            return f"a class that is new goes to the end: ask for {as_override([*now, *new])}"
        if not new:
            missing, one = (f"{gone[0]} is", "it") if len(gone) == 1 else (f"{', '.join(gone)} are", "one")
            return (
                f"{missing} missing: ask for {as_override(now)}; to take {one} away, merge it into another with "
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
        """Refuse a new name by which old answers would count as another class than they do now."""
        read_class_names([*(one for one in self.names() if one != instead_of), name])
        if name in self.former and self.former[name] != instead_of:
            raise ValueError(
                f"{name} was a class before, and answers with this name count as {self.former[name]} now; choose "
                f"another name, or take the change back with --undo"
            )


# --- in a run's directory ---------------------------------------------------------------------------------------------


def read_history(run_dir: Path) -> ClassHistory | None:
    """The history in classes.json; None where there is no such file, since no class has changed.

    Raises:
        ValueError: it cannot be read.
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


def run_classes(run_dir: Path) -> ClassHistory | None:
    """The classes of the run in a directory; None where there is no run, or one whose classes no configuration names.

    Raises:
        ValueError: a file cannot be read.
    """
    history = read_history(run_dir)
    if history is not None or not (run_dir / CONFIG).exists():
        return history
    names = named_classes(read_config(run_dir))
    return None if names is None else ClassHistory.begin(names)


def named_classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The value of data.source.class_names in a plain configuration; None where it names none."""
    data = config.get("data")
    source = data.get("source") if isinstance(data, Mapping) else None
    names = source.get("class_names") if isinstance(source, Mapping) else None
    return tuple(map(str, names)) if isinstance(names, (list, tuple)) and names else None


def write_history(run_dir: Path, history: ClassHistory) -> None:
    """Write the history in one piece: from here on the change is made."""
    changes = [{key: value for key, value in vars(one).items() if value not in (None, ())} for one in history.changes]
    write_text(
        run_dir / CLASS_CHANGES, json.dumps({"format": _FORMAT, "changes": changes}, indent=1, ensure_ascii=False)
    )


def changeable_round(run_dir: Path) -> int | None:
    """The round that would be the first to train with other classes; None while one trains, or none is to come.

    That is the round whose labels are waited for. The first round has no labels yet in a run that has just begun.
    """
    if not (round_directory(run_dir, 0) / POOL).exists():
        return 0
    number = round_under_way(run_dir)
    return number + 1 if read_state(run_dir, number)[0] == "waiting" else None


def as_override(names: Sequence[str]) -> str:
    """The classes as an argument of the run's command, quoted for Hydra and a shell where that is needed.

    >>> print(as_override(["ok", "yes", "a, b"]))
    'data.source.class_names=[ok,"yes","a, b"]'
    """
    return shlex.quote(f"data.source.class_names=[{','.join(map(_for_hydra, names))}]")


def _for_hydra(name: str) -> str:
    """A list's item that Hydra reads as the text `name`."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name) and yaml.safe_load(name) == name:
        return name
    return quote(name, '"')


def _history_of(content: Any) -> ClassHistory:
    if content["format"] != _FORMAT:
        raise ValueError(f"its format must be {_FORMAT}")
    changes = tuple(_change_of(one) for one in content["changes"])
    rounds = [change.round for change in changes]
    if [number for number, one in enumerate(changes) if one.kind == "begin"] != [0] or len(changes[0].names) < 2:
        raise ValueError("the first change, and no other, must begin with two classes or more")
    if rounds != sorted(rounds):
        raise ValueError(f"changes must be in the order of their rounds; got those of {rounds}")
    return ClassHistory(changes)


def _change_of(content: Mapping[str, Any]) -> Change:
    kind, names, to = content["kind"], content.get("names", []), content.get("to")
    texts = [*names, *([to] if to is not None else [])]
    if kind not in get_args(Kind) or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"a change must be one of {', '.join(get_args(Kind))}, of classes; got {dict(content)}")
    number = content.get("round", 0)
    if not is_integer(number, 0):
        raise ValueError(f"the round of a change must be an integer of at least 0; got {number!r}")
    return Change(kind, tuple(names), to, number, content.get("at"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
