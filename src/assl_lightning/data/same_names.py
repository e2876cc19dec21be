"""Names that are equal but for their Unicode form: "é" as one letter (NFC), or as "e" and an accent (NFD).

People cannot tell them apart, and macOS, archives and cloud drives turn one into the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def canonical(text: str) -> str:
    """Return the text in the form NFC, in which names that look the same to people are the same."""
    return unicodedata.normalize("NFC", text)


class SameNames:
    """Names that exist, found by a text that may be in another Unicode form.

    >>> SameNames(["caf\u00e9"]).find("cafe\u0301") == "caf\u00e9", SameNames(["a"]).find("b")
    (True, None)
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._by_form: dict[str, str | None] = {}  # None if two names have one form
        for name in self._names:
            form = canonical(name)
            self._by_form[form] = None if form in self._by_form else name

    def find(self, text: str) -> str | None:
        """Return the name that is `text`, or the only name that differs in its Unicode form alone; None for others."""
        return text if text in self._names else self._by_form.get(canonical(text))

    def find_cell(self, cell: str) -> str | None:
        """Return the name that a cell of a table has: the very text, or else the text without the spaces around it.

        >>> names = SameNames(["ok", " ok ", "dent"])
        >>> names.find_cell(" ok "), names.find_cell(" dent "), names.find_cell("zebra")
        (' ok ', 'dent', None)
        """
        found = self.find(cell)
        return self.find(cell.strip()) if found is None else found


def one_form(names: Iterable[str]) -> set[str]:
    """Merge names that differ in their Unicode form alone into one, in NFC; other names stay as they are."""
    forms: dict[str, str] = {}
    for name in names:
        form = canonical(name)
        forms[form] = name if form not in forms else form
    return set(forms.values())
