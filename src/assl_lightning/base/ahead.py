"""Work that a thread does ahead, while its caller is busy with what came before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

MOST = 2
"""Results that wait for the caller, or are being made, while it is busy with one."""


def ahead(work: Callable[[Given], Made], items: Iterable[Given]) -> Generator[Made, None, None]:
    """Yield `work(item)` of each item, in their order; one thread makes up to `MOST` of them ahead.

    An error of `work` is raised where its result would have come, after the results before it. The thread ends with the
    iterator: after the last result, after an error, and when the iterator is closed.

    >>> list(ahead(str.upper, ["a", "b", "c"]))
    ['A', 'B', 'C']
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            for item in items:
                waiting.append(thread.submit(work, item))
                if len(waiting) > MOST:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
