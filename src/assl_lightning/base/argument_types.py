"""Types of numbers on a command line, each the `type` of an `argparse` argument, with errors that say what is right."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from math import inf, isfinite


def number(text: str) -> float:
    """Read a finite number.

    Raises:
        ArgumentTypeError: the text is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = inf
    if not isfinite(value):
        raise ArgumentTypeError(f"must be a number; got {text!r}")
    return value


def number_above(least: float, most: float = inf) -> Callable[[str], float]:
    """Return a type of numbers above `least` and at most `most`.

    >>> number_above(0, 1)("0.5")
    0.5
    >>> number_above(0, 1)("2")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: must be a number above 0 and at most 1; got '2'
    """
    upto = "" if most == inf else f" and at most {most:g}"

    def read(text: str) -> float:
        try:
            value = number(text)
        except ArgumentTypeError:
            value = least
        if not least < value <= most:
            raise ArgumentTypeError(f"must be a number above {least:g}{upto}; got {text!r}")
        return value

    return read


def whole_number(text: str) -> int:
    """Read a whole number.

    Raises:
        ArgumentTypeError: the text is no whole number.
    """
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a whole number; got {text!r}") from None


def whole_number_from(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a type of whole numbers from `least` to `most`; without `most`, of at least `least`.

    >>> whole_number_from(1)("12")
    12
    >>> whole_number_from(0, 16)("17")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: must be a whole number from 0 to 16; got '17'
    """
    expected = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            value = whole_number(text)
        except ArgumentTypeError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise ArgumentTypeError(f"must be a whole number {expected}; got {text!r}")
        return value

    return read
