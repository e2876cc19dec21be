from __future__ import annotations

import pytest

from assl_lightning.base.words import first_few, first_line, nearest, one_line, shortened, with_kind


@pytest.mark.parametrize("typed", ["stl10", "STL1O", "Stl-10"])
def test_the_nearest_choice_is_found_whatever_its_case(typed: str) -> None:
    assert nearest(typed, ["MNIST", "STL10", "SVHN"]) == " (did you mean 'STL10'?)"


@pytest.mark.parametrize("count", range(8))
def test_the_names_that_are_shown_and_those_that_are_counted_are_all(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    parts = first_few(names, most=3).split(", ") if names else []
    more = int(parts.pop().split()[1]) if count > 3 else 0
    assert parts == names[:3]
    assert len(parts) + more == count


def test_a_shortened_text_is_exactly_as_long_as_allowed() -> None:
    assert shortened("x" * 60) == "x" * 60
    assert len(shortened("x" * 61)) == 60


@pytest.mark.parametrize("error", [EOFError(), ValueError(""), ValueError("  \n "), KeyError()])
def test_an_error_without_a_message_is_called_by_its_kind(error: Exception) -> None:
    assert one_line(error) == first_line(error) == with_kind(error) == type(error).__name__


def test_a_message_of_several_lines_becomes_one() -> None:
    error = ValueError("must be\n\n  7;\tgot 8\n")
    assert (one_line(error), first_line(error)) == ("must be 7; got 8", "must be")
    assert with_kind(error) == "ValueError: must be 7; got 8"
