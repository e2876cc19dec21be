"""One error for everything that is wrong with a folder or a table; and long lists of names, cut short for a message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SHOWN = 10  # problems that the error names


def refuse(expected: str, problems: Iterable[str]) -> None:
    """Raise a ValueError for all `problems` together, the first ten by name; return where there is none."""
    found = list(problems)
    if not found:
        return
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    count = "one thing is" if len(found) == 1 else f"{len(found)} things are"
    raise ValueError(f"{expected}; {count} wrong: {'; '.join([*found[:_SHOWN], *more])}")


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and an ellipsis where there are more.

    >>> first_few(["a", "b"]), first_few(["a", "b", "c", "d"])
    ('a, b', 'a, b, c, …')
    """
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])
