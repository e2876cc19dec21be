"""One error for everything that is wrong with a folder or a table."""

from __future__ import annotations

from collections.abc import Iterable

from assl_lightning.base.words import first_few

_SHOWN = 10  # problems that the error names


def refuse(expected: str, problems: Iterable[str]) -> None:
    """Raise a ValueError for all `problems` together, the first ten by name; return where there is none."""
    found = list(problems)
    if not found:
        return
    count = "one thing is" if len(found) == 1 else f"{len(found)} things are"
    raise ValueError(f"{expected}; {count} wrong: {first_few(found, _SHOWN, '; ')}")
