"""A timer for the messages of long work."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST = 10.0
EVERY = 60.0


class Heartbeat:
    """A timer that is due `FIRST` seconds after its start, and then every `EVERY` seconds.

    Args:
        clock: returns seconds since any fixed moment.

    >>> ticks = iter([0.0, 9.0, 10.0, 69.0, 200.0])
    >>> heartbeat = Heartbeat(lambda: next(ticks))
    >>> [heartbeat.is_due() for _ in range(4)]
    [False, True, False, True]
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + FIRST

    def is_due(self) -> bool:
        """True if the timer is due; it is then due again `EVERY` seconds later."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + EVERY
        return True
