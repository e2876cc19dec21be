"""The differences between two nested configurations."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any


def differences(before: Any, now: Any, ignore: Collection[str] = (), prefix: str = "") -> Iterator[str]:
    """Yield "key was x, now y" for each leaf that differs; `ignore` names keys to skip, with all keys below them.

    >>> list(differences({"seed": 0, "score": {"alpha": 0.8}}, {"seed": 1, "score": {"alpha": 0.5}}, ignore=["seed"]))
    ['score.alpha was 0.8, now 0.5']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            name = f"{prefix}{key}"
            if name not in ignore:
                yield from differences(before.get(key), now.get(key), ignore, f"{name}.")
    elif before != now:
        yield f"{prefix[:-1]} was {before!r}, now {now!r}"
