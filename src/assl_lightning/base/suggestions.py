"""Suggestions for a name that does not exist: the existing names that a spreadsheet, an editor or a typist changed.

A suggestion is only shown; the user decides.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from functools import cached_property
from itertools import permutations
from math import isinf
from pathlib import Path
from urllib.parse import unquote

_SHOWN = 3


_AS_A_NUMBER = "a spreadsheet takes it for a number; import the column as text"
_AS_A_DATE = "a spreadsheet takes it for a date; import the column as text"
_AS_A_FORMULA = "a spreadsheet takes it for a formula; import the column as text"
_LOST_LETTERS = "letters beyond ASCII were lost; save the file as UTF-8"
_UNICODE_FORM = "the same letters in another Unicode form, NFC or NFD; rename one of them"
_BACKSLASHES = "its directories are parted by slashes, not by backslashes"
_CASE = "its letters are the same but for their case, which counts"
_LONGER = "it begins with other directories, as on another machine or from another place"
_SHORTER = "its directories are missing"


class Suggestions:
    """A search for the existing names that a text may come from.

    Args:
        names: the names that exist.
        aliases: another word → the name that it stands for, such as an image's file name → its sample id.
    """

    most_comparisons = 100_000
    """Comparisons of spellings, which take about three seconds in all; after them only exact lookups are made."""

    def __init__(self, names: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._aliases = dict(aliases or {})
        self._comparisons = 0

    def hint(self, text: str) -> str:
        """Return " (did you mean …?)" with the names that `text` may come from and how they were changed, or "".

        >>> Suggestions(["00123", "1-2", "a.png"]).hint("1.23E+02")
        " (did you mean '00123'? a spreadsheet takes it for a number; import the column as text)"
        >>> Suggestions(["00123", "1-2", "a.png"]).hint("02-Jan")
        " (did you mean '1-2'? a spreadsheet takes it for a date; import the column as text)"
        >>> Suggestions(["img/a.png"]).hint("C:\\\\data\\\\img\\\\a.png")
        " (did you mean 'img/a.png'? it begins with other directories, as on another machine or from another place)"
        >>> Suggestions(["a.png"]).hint("a.png "), Suggestions(["a.png"]).hint("zebra")
        (" (did you mean 'a.png'?)", '')
        """
        found, why = self._search(text)
        if not found:
            return ""
        why = why or _change(text, found[0])
        named = ", ".join(repr(name) for name in found[:_SHOWN])
        more = f" or another {len(found) - _SHOWN}" if len(found) > _SHOWN else ""
        one_of = "one of " if len(found) > 1 else ""
        return f" (did you mean {one_of}{named}{more}?{' ' if why else ''}{why})"

    def _search(self, text: str) -> tuple[list[str], str]:
        ways = (
            (self._by_plain, map(_plain, _readings(text)), ""),
            (self._by_number, _number_keys(text, damaged=True), _AS_A_NUMBER),
            (self._by_date, _date_keys(text, damaged=True), _AS_A_DATE),
            (self._by_ascii, [_ascii(text)], _LOST_LETTERS),
            (self._by_plain, _ends(text), _LONGER),
            (self._by_tail, [_plain(text)], ""),
            (self._by_number_of_tail, _number_keys(text, damaged=True), _AS_A_NUMBER),
        )
        for table, keys, why in ways:
            found = [name for key in keys for name in table.get(key, ())]
            if found:
                return list(dict.fromkeys(found)), why
        if re.fullmatch(r"#(NAME|NULL|REF|VALUE|ERROR|N/A|DIV/0|NUM)[?!]?", text.strip(), re.IGNORECASE):
            return [name for name in self._names if name.startswith(("=", "+", "-", "@"))], _AS_A_FORMULA
        return self._by_spelling(text), ""

    @cached_property
    def _by_plain(self) -> Mapping[Hashable, list[str]]:
        table = _table((_plain(name), name) for name in self._names)
        for alias, name in self._aliases.items():
            table.setdefault(_plain(alias), [name])
        for truth, translated in (("true", ("wahr", "vrai")), ("false", ("falsch", "faux"))):
            for word in translated:
                if truth in table:
                    table.setdefault(word, table[truth])
        return table

    @cached_property
    def _by_number(self) -> Mapping[Hashable, list[str]]:
        return _table((key, name) for name in self._names for key in _number_keys(name))

    @cached_property
    def _by_number_of_tail(self) -> Mapping[Hashable, list[str]]:
        """The number that the last part of a path may be read as → names."""
        tails = ((tail, name) for name in self._names for tail in _tails(name))
        return _table((key, name) for tail, name in tails for key in _number_keys(tail))

    @cached_property
    def _by_date(self) -> Mapping[Hashable, list[str]]:
        return _table((key, name) for name in self._names for key in _date_keys(name))

    @cached_property
    def _by_ascii(self) -> Mapping[Hashable, list[str]]:
        return _table((_ascii(name), name) for name in self._names if not name.isascii())

    @cached_property
    def _by_tail(self) -> Mapping[Hashable, list[str]]:
        """A name without directories, without suffix, or without both → names."""
        return _table((key, name) for name in self._names for key in _tails(name))

    def _by_spelling(self, text: str) -> list[str]:
        self._comparisons += len(self._names)
        if self._comparisons > self.most_comparisons or len(text) > 500:
            return []
        close = difflib.get_close_matches(text, self._names, n=1, cutoff=0.75)
        return [name for name in close if not _is_another_number(text, name)]


def nearest_path(path: Path) -> str:
    """Return a hint at the name that the first part of `path` that does not exist may stand for, or ""."""
    directory = Path(path.anchor)
    for part in path.parts[len(directory.parts) :]:
        if not (directory / part).exists():
            try:
                return Suggestions(other.name for other in directory.iterdir()).hint(part)
            except OSError:
                return ""
        directory = directory / part
    return ""


def _is_another_number(text: str, name: str) -> bool:
    """True if only numbers differ, as in "photo 7" and "photo 8": that is another photo, not a misspelling."""
    first, second = (re.sub("[0-9]+", lambda found: f"{int(found[0])}", string) for string in (text, name))
    return first != second and re.sub("[0-9]+", "0", first) == re.sub("[0-9]+", "0", second)


def _table(pairs: Iterable[tuple[Hashable, str]]) -> dict[Hashable, list[str]]:
    table: dict[Hashable, list[str]] = {}
    for key, name in pairs:
        table.setdefault(key, []).append(name)
    return table


# --- letters ---------------------------------------------------------------------------------------------------------

_LOOK_ALIKES = str.maketrans("‐‑‒–—―−‘’‚‛´`“”„\\", "-------''''''\"\"\"/")


def _plain(text: str) -> str:
    """Return the text in a normal form of case, spaces, quotes, Unicode and slashes, which are easily changed."""
    folded = unicodedata.normalize("NFKC", text.translate(_LOOK_ALIKES)).casefold()
    unquoted = "".join(folded.split()).removeprefix("=").strip("'\"")
    return unquoted.removeprefix("./")


def _readings(text: str) -> list[str]:
    """Return the text, and the texts whose UTF-8 was misread as cp1252 or Latin-1."""
    readings = [text]
    for encoding in ("cp1252", "latin-1"):
        try:
            readings.append(text.encode(encoding).decode())
        except UnicodeError:
            continue
    return readings


def _change(text: str, name: str) -> str:
    """Return how `text` differs from the intended `name`, if the difference is hard to see, or ""."""
    if unicodedata.normalize("NFC", text) == unicodedata.normalize("NFC", name):
        return _UNICODE_FORM
    if text.replace("\\", "/") == name:
        return _BACKSLASHES
    if text.casefold() == name.casefold():
        return _CASE
    return _SHORTER if name.endswith(f"/{text}") else ""


def _ends(text: str) -> list[str]:
    """Return the ends of a path, or of an address such as file:///a/b%20c.png, the longest first."""
    is_address = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    plain = _plain(unquote(text) if is_address else text)
    parts = [part for part in plain.split("/") if part]
    return ["/".join(parts[first:]) for first in range(len(parts))] if "/" in plain else []


def _ascii(text: str) -> str:
    """Return the text with question marks for all letters beyond ASCII."""
    return re.sub(r"[^\x00-\x7f]", "?", unicodedata.normalize("NFC", text))


def _tails(name: str) -> set[str]:
    plain = _plain(name)
    last = plain.rpartition("/")[2]
    return {last, *(part.rpartition(".")[0] for part in (plain, last) if "." in part[1:])} - {""}


# --- numbers ---------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(?:([,. '\u00a0\u202f’])[0-9]{3})(?:\1[0-9]{3})*")
_LONGEST = 60  # characters of a number
_DIGITS = 15  # that spreadsheets keep of a number


def _number_keys(text: str, damaged: bool = False) -> set[tuple[bool, str]]:
    """Return the numbers that the text may be read as: (True if digits were dropped, value).

    An existing name gets a key with all digits, and one for each number of digits to which it may be rounded; a
    `damaged` text is taken as it is.
    """
    text = text.strip()
    keys: set[tuple[bool, str]] = set()
    for written in {text, text.replace(",", "."), _ungrouped(text)}:
        if len(written) > _LONGEST or not _NUMBER.fullmatch(written) or isinf(float(written)):
            continue
        value, is_rounded = Decimal(written), "e" in written.lower()
        keys.add((False, repr(float(written) + 0.0)))
        digits = len(value.as_tuple().digits)
        keys |= _rounded(value, _DIGITS, False)
        if damaged and is_rounded:
            keys |= _rounded(value, digits, True)
        elif not damaged:
            keys = keys.union(*(_rounded(value, kept, True) for kept in range(1, min(digits, _DIGITS) + 1)))
    return keys


def _rounded(value: Decimal, digits: int, dropped: bool) -> set[tuple[bool, str]]:
    """Return the value rounded to the nearest and, as in some spreadsheets, towards zero."""
    roundings = (Context(prec=digits, rounding=how).plus(value) for how in (ROUND_HALF_UP, ROUND_DOWN))
    return {(dropped, str(rounded.normalize(Context(prec=_LONGEST)))) for rounded in roundings}


def _ungrouped(text: str) -> str:
    """Remove the separators between thousands."""
    found = _GROUPED.fullmatch(text)
    return text.replace(found[1], "") if found else text


# --- dates -----------------------------------------------------------------------------------------------------------

_MONTHS = (
    ("january", "januar", "janvier"),
    ("february", "februar", "février"),
    ("march", "märz", "mrz", "mars"),
    ("april", "avril"),
    ("may", "mai"),
    ("june", "juni", "juin"),
    ("july", "juli", "juillet"),
    ("august", "août"),
    ("september", "septembre"),
    ("october", "oktober", "octobre"),
    ("november", "novembre"),
    ("december", "dezember", "décembre"),
)
_TOKEN = re.compile(r"[0-9]+|[^\W\d_]+")
_MIDNIGHT = re.compile(r"[T ]0?0:00(:00(\.0+)?)?$")
_DAY_ZERO = date(1899, 12, 30)  # from which spreadsheets count
_SERIALS = range(20_000, 80_000)  # 1954 to 2119


def _date_keys(text: str, damaged: bool = False) -> set[tuple[int, ...]]:
    """Return the dates that the text may be read as: (month, day), (year, month), (year, month, day).

    In a `damaged` text the spreadsheet may have added the year, or written its number of the day.
    """
    text = _MIDNIGHT.sub("", text.strip())
    if damaged and re.fullmatch("[0-9]{5}", text) and int(text) in _SERIALS:
        text = (_DAY_ZERO + timedelta(days=int(text))).isoformat()
    tokens = _TOKEN.findall(text)
    if len(tokens) not in (2, 3) or _TOKEN.sub("", text).strip("-/., "):
        return set()
    keys = {key for order in permutations(tokens) for key in _dates_of(order)}
    return keys | {key[1:] for key in keys if damaged and len(key) == 3}


def _dates_of(tokens: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the dates that tokens give, read as month and day, month and year, or year, month and day."""
    if len(tokens) == 3:
        whole = _year(tokens[0]), _month(tokens[1]), _day(tokens[2])
        if None not in whole:
            yield whole  # type: ignore[misc]
        return
    month, day, year = _month(tokens[0]), _day(tokens[1]), _year(tokens[1])
    if month is not None and day is not None:
        yield month, day
    if month is not None and year is not None:
        yield year, month


def _month(token: str) -> int | None:
    if token.isdecimal():
        return int(token) if len(token) <= 2 and 1 <= int(token) <= 12 else None
    word = token.casefold()
    named = [number for number, names in enumerate(_MONTHS, start=1) if any(name.startswith(word) for name in names)]
    return named[0] if named and len(word) >= 3 else None


def _day(token: str) -> int | None:
    return int(token) if token.isdecimal() and len(token) <= 2 and 1 <= int(token) <= 31 else None


def _year(token: str) -> int | None:
    """Return the year of a token; two digits are read as spreadsheets read them."""
    if not token.isdecimal() or len(token) not in (2, 4):
        return None
    year = int(token) if len(token) == 4 else int(token) + (2000 if int(token) < 30 else 1900)
    return year if 1900 <= year < 2100 else None
