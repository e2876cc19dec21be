from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from assl_lightning.base.ahead import MOST, ahead

SECONDS = 30  # until a thread that does not do its part fails the test


def threads_of_its_own() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1, 20])
def test_results_come_in_the_order_of_the_items_and_the_thread_ends(count: int) -> None:
    assert list(ahead(lambda item: item * item, range(count))) == [item * item for item in range(count)]
    assert threads_of_its_own() == []


def test_the_next_results_are_made_while_the_caller_has_one_and_not_more_than_so_many() -> None:
    begun = [threading.Event() for _ in range(6)]
    results = ahead(lambda item: begun[item].set(), range(6))
    for taken in range(3):
        next(results)
        for item in range(taken + MOST + 1):
            assert begun[item].wait(SECONDS), f"{item} was not begun while the caller had {taken}"
        assert not any(event.is_set() for event in begun[taken + MOST + 1 :])
    results.close()
    assert threads_of_its_own() == []


def test_items_are_asked_for_when_there_is_room() -> None:
    given: list[int] = []

    def items() -> Iterator[int]:
        for item in range(10):
            given.append(item)
            yield item

    results = ahead(str, items())
    assert next(results) == "0"
    assert given == list(range(MOST + 1))
    results.close()


def test_an_error_comes_in_the_place_of_its_result_and_nothing_after_it() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 2:
            raise ValueError("c.png is damaged")
        done.append(item)
        return item

    results = ahead(work, range(9))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match=r"c\.png is damaged"):
        next(results)
    assert threads_of_its_own() == []
    assert max(done) <= 2 + MOST
    assert list(results) == []


def test_a_caller_that_fails_leaves_no_thread() -> None:
    def use() -> None:
        for result in ahead(str, range(9)):
            raise RuntimeError(f"no use for {result}")

    with pytest.raises(RuntimeError, match="no use for 0"):
        use()
    assert threads_of_its_own() == []
