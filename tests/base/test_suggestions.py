"""What spreadsheets, editors and hands make of a name is told, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assl_lightning.base.suggestions import Suggestions

NUMBER = "a spreadsheet takes it for a number; import the column as text"
DATE = "a spreadsheet takes it for a date; import the column as text"
UNICODE = "the same letters in another Unicode form, NFC or NFD; rename one of them"
SLASHES = "its directories are parted by slashes, not by backslashes"
CASE = "its letters are the same but for their case, which counts"
LONGER = "it begins with other directories, as on another machine or from another place"
SHORTER = "its directories are missing"
LETTERS = "letters beyond ASCII were lost; save the file as UTF-8"


@pytest.mark.parametrize(
    ("name", "came", "why"),
    [
        ("00123", "123", NUMBER),
        ("00123", "123.0", NUMBER),
        ("00123", "123,00", NUMBER),  # a decimal comma
        ("123456", "1.23E+05", NUMBER),
        ("0123456", "1,23E+05", NUMBER),
        ("123456", "1.2346e+05", NUMBER),
        ("12345678901234567", "12345678901234500", NUMBER),  # fifteen digits are kept
        ("12345678901234567", "1.23457E+16", NUMBER),
        ("12345678901234567", "12345678901234568", NUMBER),  # as a floating point number
        ("1e5", "100000", NUMBER),
        ("12e3", "1.20E+04", NUMBER),
        ("1.50", "1.5", NUMBER),
        ("+5", "5", NUMBER),
        ("-0", "0", NUMBER),
        ("1234567", "1,234,567", NUMBER),
        ("1234567", "1.234.567", NUMBER),
        ("1", "1.0", NUMBER),
        ("1-2", "02-Jan", DATE),
        ("1-2", "2-Jan", DATE),
        ("1-2", "01-Feb", DATE),
        ("1/2", "01. Feb", DATE),
        ("3-4", "04. Mrz", DATE),
        ("1-2", "2026-01-02", DATE),
        ("1-2", "2026-01-02 00:00:00", DATE),
        ("1-2", "46054", DATE),  # the number of that day
        ("10/2002", "Oct-02", DATE),
        ("MARCH1", "01-Mar", DATE),
        ("SEPT2", "2-Sep", DATE),
        ("2024-03-04", "04.03.2024", DATE),
        ("2024-03-04", "3/4/2024", DATE),
        ("sub/b 1.png", "sub\\b 1.png", SLASHES),
        ("sub/a.png", " sub/a.png ", ""),
        ("sub/b 1.png", "sub/b  1.png", ""),
        ("sub/a.png", "Sub/A.PNG", CASE),
        ("it's.png", "it’s.png", ""),
        ("a-b.png", "a–b.png", ""),
        ("00123", "'00123", ""),
        ("00123", '="00123"', ""),
        ("ü.png", "u\u0308.png", UNICODE),  # as macOS writes it
        ("ü.png", "Ã¼.png", ""),
        ("sub/ü.png", "sub/?.png", LETTERS),
        ("sub/ü.png", "sub/\ufffd.png", LETTERS),
        ("sub/a.png", "a.png", SHORTER),
        ("img/00123.png", "123", NUMBER),
        ("img/a.png", "C:\\data\\img\\a.png", LONGER),
        ("img/a.png", "/home/me/img/a.png", LONGER),
        ("img/a b.png", "file:///data/img/a%20b.png", LONGER),
        ("a.png", "img/a.png", LONGER),
        ("sub/a.png", "sub/a", ""),
        ("true", "TRUE", CASE),
        ("False", "FALSCH", ""),
        ("scratch", "scrtach", ""),
        ("=1+1.png", "#NAME?", "a spreadsheet takes it for a formula; import the column as text"),
    ],
)
def test_damage_is_told_with_what_it_comes_from(name: str, came: str, why: str) -> None:
    others = ["zebra", "007", "7-8", "x.png"]
    assert Suggestions([*others, name]).hint(came) == f" (did you mean {name!r}?{' ' if why else ''}{why})"


def test_a_photograph_is_known_by_its_path() -> None:
    assert Suggestions(["p1"], {"/photos/IMG 1.jpg": "p1"}).hint("\\Photos\\IMG 1.jpg") == " (did you mean 'p1'?)"


def test_several_that_it_may_come_from_are_all_told() -> None:
    hint = Suggestions(["001", "01", "1.0", "1e0", "2"]).hint("1")
    assert hint == f" (did you mean one of '001', '01', '1.0' or another 1? {NUMBER})"


@pytest.mark.parametrize(
    "text", ["zebra", "", " ", "9" * 100, "1e400", "1e999999", "٣", "²-²", "-", "1-2-3-4", "Jan", "99999"]
)
def test_what_comes_from_nowhere_has_no_hint(text: str) -> None:
    assert Suggestions(["00123", "1-2", "b/c.png"]).hint(text) == ""


def test_letters_are_not_compared_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Suggestions, "most_comparisons", 300)
    suggestions = Suggestions(f"photograph {number}.png" for number in range(100))
    hints = [suggestions.hint("fotograph 1.png") for _ in range(4)]
    assert hints == [" (did you mean 'photograph 1.png'?)"] * 3 + [""]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=5), st.text())
def test_any_text_may_be_looked_up(names: list[str], text: str) -> None:
    hint = Suggestions(names).hint(text)
    assert hint == "" or any(repr(name) in hint for name in names)


@settings(deadline=None)
@given(st.from_regex(r"[+-]?0{0,3}[0-9]{1,18}(\.[0-9]{1,4})?", fullmatch=True))
def test_what_a_float_makes_of_a_number_is_told(name: str) -> None:
    damaged = repr(float(name))
    if damaged != name:
        assert repr(name) in Suggestions([name]).hint(damaged)
