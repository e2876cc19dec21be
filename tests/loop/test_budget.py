from __future__ import annotations

import pytest

from assl_lightning.loop.budget import labels_after, labels_between, planned_labels
from assl_lightning.loop.settings import RoundSettings


@pytest.mark.parametrize(
    ("batches", "schedule", "expected"),
    [
        (10, None, [10, 10, 10, 10]),
        ((40, 20), None, [40, 20, 20, 20]),
        ((1, 2, 3, 4, 5), None, [1, 2, 3, 4]),
        (10, "geometric", [10, 20, 40, 80]),
    ],
)
def test_batches_add_up(batches: int | tuple[int, ...], schedule: str | None, expected: list[int]) -> None:
    settings = RoundSettings(rounds=4, initial_labels=7, labels_per_round=batches, schedule=schedule)  # type: ignore[arg-type]
    assert [settings.labels_after(number) for number in range(4)] == expected
    for first in range(5):
        for end in range(first, 5):
            assert settings.labels_between(first, end) == sum(expected[first:end])
    assert settings.total_labels == 7 + sum(expected)
    config = {"labels_per_round": list(batches) if isinstance(batches, tuple) else batches, "schedule": schedule}
    assert [planned_labels(config, number) for number in range(4)] == expected


def test_a_configuration_that_does_not_say_gives_none() -> None:
    for wrong in (None, 0, [], [3, 0], "ten", True):
        assert planned_labels({"labels_per_round": wrong}, 0) is None


def test_very_many_rounds_are_counted_at_once() -> None:
    assert labels_between(3, None, 0, 10**9) == 3 * 10**9
    assert labels_between(3, "geometric", 0, 10**9) > 10**18
    assert labels_after(3, "geometric", 10**9) > 10**18


@pytest.mark.parametrize(
    ("settings", "possible", "asked"),
    [
        (RoundSettings(rounds=9, initial_labels=10, labels_per_round=10), 9, None),
        (RoundSettings(rounds=10, initial_labels=10, labels_per_round=10), 9, "rounds × labels_per_round = 110"),
        (RoundSettings(rounds=4, initial_labels=10, labels_per_round=(30, 40)), 2, "what 4 rounds ask for = 160"),
        (
            RoundSettings(rounds=4, initial_labels=10, labels_per_round=10, schedule="geometric"),
            3,
            "what 4 rounds ask for = 160",
        ),
    ],
)
def test_too_many_labels_are_refused_with_the_rounds_that_are_possible(
    settings: RoundSettings, possible: int, asked: str | None
) -> None:
    found = settings.find_shortage(100)
    if asked is None:
        assert found == []
    else:
        assert asked in str(found[0])
        assert str(found[0]).endswith(f"lower one of them, for example rounds={possible}")


def test_a_schedule_and_a_list_contradict_each_other() -> None:
    (found,) = RoundSettings(labels_per_round=(1, 2), schedule="geometric").find_contradictions()
    assert "a schedule grows from one number, and a list says each" in str(found)


@pytest.mark.parametrize("wrong", [0, (), (3, 0)])
def test_batches_of_no_labels_are_refused(wrong: int | tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="labels_per_round must be at least 1, and a list not empty"):
        RoundSettings(labels_per_round=wrong)


def test_a_list_may_be_any_sequence_of_whole_numbers() -> None:
    assert RoundSettings(labels_per_round=[3, 4]).labels_per_round == (3, 4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="labels_per_round"):
        RoundSettings(labels_per_round="ten")  # type: ignore[arg-type]
