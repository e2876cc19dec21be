"""Compute how many labels each round asks for; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from assl_lightning.base.arguments import is_integer
from assl_lightning.base.rules import Rule
from assl_lightning.base.words import first_few

Schedule = Literal["geometric"]
"""How batches grow; there is one way beside staying the same and a list."""

_LEAST = Rule("at least 1, and a list not empty", lambda value: min(_as_list(value), default=0) >= 1)

_MOST_DOUBLINGS = 64  # no pool has so many images

Batches = Annotated[int | tuple[int, ...], _LEAST]
"""A number of labels for every round, or a list with one for each; the last one then holds for all further rounds."""


def labels_after(batches: int | Sequence[int], schedule: Schedule | None, number: int) -> int:
    """Return the number of labels that are asked for after the training of round `number`, ≥ 0.

    >>> [labels_after(10, None, number) for number in range(3)]
    [10, 10, 10]
    >>> [labels_after((10, 20), None, number) for number in range(3)]
    [10, 20, 20]
    >>> [labels_after(10, "geometric", number) for number in range(3)]
    [10, 20, 40]
    """
    listed = _as_list(batches)
    each: int = listed[min(number, len(listed) - 1)]
    return each << min(number, _MOST_DOUBLINGS) if schedule == "geometric" else each


def labels_between(batches: int | Sequence[int], schedule: Schedule | None, first: int, end: int) -> int:
    """Return the labels that are asked for after the trainings of the rounds `first` to `end` − 1.

    >>> labels_between(10, "geometric", 0, 3)
    70
    """
    return _labels_until(batches, schedule, end) - _labels_until(batches, schedule, first)


def _labels_until(batches: int | Sequence[int], schedule: Schedule | None, end: int) -> int:
    listed = _as_list(batches)
    if schedule == "geometric":
        return int(listed[0]) * ((1 << min(end, _MOST_DOUBLINGS)) - 1)
    return int(sum(listed[:end]) + max(end - len(listed), 0) * listed[-1])


def describe_batches(labels_of: Callable[[int], int], first: int, end: int, what: str) -> str:
    """Describe the batches after the trainings of the rounds `first` to `end` − 1, at least one.

    >>> describe_batches(lambda number: 10, 1, 3, "more to label")
    '20 more to label, 10 in each of 2 rounds'
    >>> describe_batches(lambda number: 10 * 2**number, 0, 3, "more to label")
    '70 more to label, 10, 20, 40 in 3 rounds'
    """
    batches = [labels_of(number) for number in range(first, end)]
    rounds = "in the last round"
    if len(batches) > 1:
        each = f"{batches[0]} in each of" if len(set(batches)) == 1 else f"{first_few(batches, 10)} in"
        rounds = f"{each} {len(batches)} rounds"
    return f"{sum(batches)} {what}, {rounds}"


def planned_labels(config: Mapping[str, Any], number: int) -> int | None:
    """Return `labels_after` by a run's plain configuration; None where it does not say."""
    batches = _as_list(config.get("labels_per_round"))
    if not batches or not all(is_integer(count, 1) for count in batches):
        return None
    return labels_after(batches, "geometric" if config.get("schedule") == "geometric" else None, number)


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]
