"""Checks of arguments, and of values that files hold: whole numbers, numbers, one of several words.

Numbers from outside become Python's own where they enter: numpy's would make a checkpoint that cannot be loaded.
"""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any, TypeGuard, get_args

from assl_lightning.base.words import nearest, shortened


def is_integer(value: object, least: float = -math.inf) -> TypeGuard[int]:
    """True for an int of at least `least`; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[float]:
    """True for a finite int or float, not so large that no float holds it; a bool is none.

    >>> is_number(0.5), is_number(True), is_number(math.nan), is_number(10**400), is_number("1")
    (True, False, False, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """`value` as an int; those of numpy and torch are taken, and True, 2.0 and "2" are not.

    Args:
        name: of the argument, for the message.
        least: the smallest value that is allowed.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is smaller than `least`.

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
    """`value` as a float; those of numpy and torch are taken, and True, "2" and NaN are not.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite.
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
    """The only number of an array or a tensor without axes as Python's; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
