"""Checks of networks' arguments."""

from __future__ import annotations


def require_integers(minimum: int, **arguments: int) -> None:
    """Raise ValueError naming the first argument that is not an integer of at least `minimum`."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"{name} must be an integer of at least {minimum}; got {value!r}")


def require_dropout(dropout: float) -> None:
    """Raise ValueError unless `dropout` is a probability below 1."""
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be a probability in [0, 1); got {dropout!r}")
