from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from assl_lightning.base.argument_types import number, number_above, whole_number, whole_number_from


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e999", "1,5"])
def test_what_is_no_finite_number_is_quoted(text: str) -> None:
    for read, expected in (
        (number, "a number"),
        (number_above(0), "a number above 0"),
        (whole_number, "a whole number"),
        (whole_number_from(1), "a whole number of at least 1"),
    ):
        with pytest.raises(ArgumentTypeError) as caught:
            read(text)
        assert str(caught.value) == f"must be {expected}; got {text!r}"


def test_numbers_may_be_negative_where_nothing_bounds_them() -> None:
    assert (number("-2.5"), whole_number("-2")) == (-2.5, -2)


def test_the_lower_bound_of_numbers_is_out_and_the_upper_one_in() -> None:
    read = number_above(0, 100)
    assert [read(text) for text in ("1e-9", "50", "100")] == [1e-9, 50.0, 100.0]
    for text in ("0", "-1", "100.001"):
        with pytest.raises(ArgumentTypeError, match="must be a number above 0 and at most 100; got"):
            read(text)


def test_both_bounds_of_whole_numbers_are_in() -> None:
    read = whole_number_from(0, 16)
    assert [read(text) for text in ("0", "7", "16")] == [0, 7, 16]
    for text in ("-1", "17", "2.0"):
        with pytest.raises(ArgumentTypeError, match="must be a whole number from 0 to 16; got"):
            read(text)
