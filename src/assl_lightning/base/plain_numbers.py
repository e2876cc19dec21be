"""Numbers from outside as Python's own, where they enter: numpy's would make a checkpoint that cannot be loaded."""

from __future__ import annotations

import math
import numbers
import operator

import torch


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
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or _is_truth(value):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}; got {number}")
    return number


def real_number(name: str, value: object) -> float:
    """`value` as a float; those of numpy and torch are taken, and True, "2" and NaN are not.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite.
    """
    is_scalar = isinstance(value, torch.Tensor) and value.ndim == 0 and not value.is_complex()
    if not (isinstance(value, numbers.Real) or is_scalar) or _is_truth(value):
        raise TypeError(f"{name} must be a number; got {value!r}")
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number; got {number}")
    return number


def _is_truth(value: object) -> bool:
    """Python's, numpy's or torch's True or False, which count as numbers elsewhere."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
