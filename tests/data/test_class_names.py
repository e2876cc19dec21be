"""Which names classes may have, and what is odd about some."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest

from assl_lightning.data.class_names import are_splits, class_order, oddities, read_class_names
from assl_lightning.data.same_names import SameNames, one_form

COMPOSED = "m\u00fcll"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def test_names_are_texts_and_whole_numbers_their_digits() -> None:
    assert read_class_names(["ok", "0010", 7, np.int64(8), "yes"]) == ["ok", "0010", "7", "8", "yes"]
    assert read_class_names(("a", "A")) == ["a", "A"], "odd, and allowed"
    assert read_class_names([]) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ok", "must be a list, such as .* got the text 'ok': write .ok."),
        (7, "must be a list, such as"),
        ([True, False], "2 things are wrong: True is no text; quote it, as in .'yes', 'no'.: .*; False is no text"),
        ([1.1, "ok"], "one thing is wrong: 1.1 is no text; quote it"),
        ([None, "ok"], "one thing is wrong: None is no text; quote it"),
        (["", "ok"], "must be texts that are not empty; one thing is wrong: '' is blank"),
        (["  ", "ok"], "one thing is wrong: '  ' is blank"),
        (["a", "b", "a"], "must be distinct; one thing is wrong: a is there 2 times"),
        ([0, "0"], "must be distinct; one thing is wrong: 0 is there 2 times"),
        ([COMPOSED, DECOMPOSED], "must be distinct; one thing is wrong: m.ll is there 2 times"),
    ],
)
def test_what_is_no_name_is_refused_with_how_to_write_it(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"class_names .*{message}"):
        read_class_names(names)


def test_classes_that_are_numbers_come_by_their_values() -> None:
    assert class_order({"10", "9", "007"}) == ["007", "9", "10"]
    assert class_order({"10", "9", "a"}) == ["10", "9", "a"]
    assert class_order({"²", "1"}) == ["1", "²"]


def test_a_name_is_found_in_another_unicode_form_where_only_one_can_be_meant() -> None:
    assert SameNames([COMPOSED, "ok"]).find(DECOMPOSED) == COMPOSED
    assert SameNames([DECOMPOSED]).find(COMPOSED) == DECOMPOSED
    both = SameNames([COMPOSED, DECOMPOSED])
    assert (both.find(COMPOSED), both.find(DECOMPOSED)) == (COMPOSED, DECOMPOSED)
    other = unicodedata.normalize("NFC", "a\u0323\u0307"), "a\u0307\u0323"
    assert SameNames([other[0], unicodedata.normalize("NFD", other[0])]).find(other[1]) is None
    assert one_form([COMPOSED, DECOMPOSED, "ok"]) == {COMPOSED, "ok"}
    assert one_form([DECOMPOSED]) == {DECOMPOSED}


def test_what_is_odd_about_names_is_a_sentence_each() -> None:
    assert oddities(["ok", "dent", "10", "train"]) == []
    (alike,) = oddities(["Dent", "dent", "ok"])
    assert alike.startswith("The classes 'Dent' and 'dent' have names that are alike but for case, spaces or dashes;")
    (wide,) = oddities(["light dent", "light_dent", "LIGHT-DENT"])
    assert wide.startswith("The classes 'light dent' and 'light_dent' and 'LIGHT-DENT'")
    for name in ("NA", "nan", "None", "null", "n/a"):
        (missing,) = oddities(["ok", name])
        assert missing.startswith(f"A class is called {name!r}, as programs call what is missing;")
    (splits,) = oddities(["test", "train"])
    assert splits.startswith("The classes are called test, train, as the parts of a data set are;")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["train", "val"], True), (["Training", "TEST", "dev"], True), (["train"], False), (["bus", "train"], False)],
)
def test_parts_of_a_data_set_are_known_where_all_names_are_theirs(names: list[str], expected: bool) -> None:
    assert are_splits(names) is expected
