"""Checks of arguments and of values in files: whole numbers, numbers, one of several words.

Numbers of other libraries become Python's own: a checkpoint with numpy's could not be loaded.
"""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any, TypeGuard, get_args

from assl_lightning.base.words import nearest, shortened


def is_integer(value: object, least: float = -math.inf) -> TypeGuard[int]:
    """True if `value` is an int of at least `least`; a bool is no int here."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[float]:
    """True if `value` is an int or a float in the finite range of a float; a bool is no number here.

    >>> is_number(0.5), is_number(True), is_number(math.nan), is_number(10**400), is_number("1")
    (True, False, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """Return `value` as an int. Integers of numpy and torch are accepted; True, 2.0 and "2" are not.

    Args:
        name: the argument's name, for the message.
        least: the smallest value that is allowed.

    Raises:
        TypeError: `value` is no whole number.
        ValueError: `value` is smaller than `least`.

    >>> import numpy as np
    >>> whole_number("num_samples", np.int64(40), least=1)
    40
    """
    plain = _as_python(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Integral):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    number = int(plain)
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}; got {number}")
    return number


def real_number(name: str, value: object) -> float:
    """Return `value` as a float. Numbers of numpy and torch are accepted; True, "2" and NaN are not.

    Raises:
        TypeError: `value` is no number.
        ValueError: `value` is not finite.
    """
    plain = _as_python(value)
    if isinstance(plain, bool) or not isinstance(plain, numbers.Real):
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(plain)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number; got {number}")
    return number


def require_integers(minimum: int, **arguments: int) -> None:
    """Raise ValueError naming the first argument that is not an integer of at least `minimum`."""
    for name, value in arguments.items():
        if not is_integer(value, minimum):
            raise ValueError(f"{name} must be an integer of at least {minimum}; got {value!r}")


def require_dropout(dropout: float) -> None:
    """Raise ValueError unless `dropout` is a probability below 1."""
    if not is_number(dropout) or not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be a probability in [0, 1); got {dropout!r}")


def require_one_of(name: str, value: object, words: Any) -> None:
    """Raise ValueError unless `value` is one of `words`, a `Literal` type.

    >>> from typing import Literal
    >>> require_one_of("weights", "Raw", Literal["raw", "ema"])
    Traceback (most recent call last):
    ValueError: weights must be one of raw, ema; got 'Raw' (did you mean 'raw'?)
    """
    known = get_args(words)
    if value not in known:
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(known)}; got {shortened(repr(value))}{hint}")


def _as_python(value: object) -> object:
    """Return the number in an array or tensor without axes; return anything else unchanged."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
