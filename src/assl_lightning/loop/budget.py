"""How many labels each round asks for; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from assl_lightning.base.arguments import is_integer
from assl_lightning.base.rules import Rule

Schedule = Literal["geometric"]
"""How batches grow; there is one way beside staying the same and a list."""

_LEAST = Rule("at least 1, and a list not empty", lambda value: min(_as_list(value), default=0) >= 1)

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
    return each * 2**number if schedule == "geometric" else each


def labels_between(batches: int | Sequence[int], schedule: Schedule | None, first: int, end: int) -> int:
    """Return the labels that are asked for after the trainings of the rounds `first` to `end` − 1.

    >>> labels_between(10, "geometric", 0, 3)
    70
    """
    return sum(labels_after(batches, schedule, number) for number in range(first, end))


def planned_labels(config: Mapping[str, Any], number: int) -> int | None:
    """Return `labels_after` by a run's plain configuration; None where it does not say."""
    batches = _as_list(config.get("labels_per_round"))
    if not batches or not all(is_integer(count, 1) for count in batches):
        return None
    return labels_after(batches, "geometric" if config.get("schedule") == "geometric" else None, number)


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else [value]
