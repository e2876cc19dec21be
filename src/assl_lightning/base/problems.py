"""Errors that name all problems of a folder, a table or a configuration at once."""

from __future__ import annotations

from collections.abc import Iterable

from assl_lightning.base.words import first_few

_SHOWN = 10  # problems that the error names


class ProblemsError(ValueError):
    """An error that names several problems: `lines` has a sentence for each."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))


def refuse(expected: str, problems: Iterable[str]) -> None:
    """Raise a ValueError that names the first ten `problems` and counts the others; return if there is none."""
    found = list(problems)
    if not found:
        return
    count = "one thing is" if len(found) == 1 else f"{len(found)} things are"
    raise ValueError(f"{expected}; {count} wrong: {first_few(found, _SHOWN, '; ')}")
