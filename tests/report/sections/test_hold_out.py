from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from assl_lightning.loop.records import RoundRecord, read_records, write_record
from assl_lightning.report.markdown import render_markdown
from assl_lightning.report.sections.hold_out import describe_test_set, describe_test_set_of
from assl_lightning.report.views import Page, Section
from tests.report.test_table import printed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Runs


def records(tested: Sequence[int | None], queried: int = 5) -> list[RoundRecord]:
    return [
        RoundRecord(
            number,
            6 + number * queried,
            100,
            60,
            0.5,
            0.5,
            test_images=size,
            queried=[*range(queried * number, queried * (number + 1))] if number < len(tested) - 1 else [],
        )
        for number, size in enumerate(tested)
    ]


@pytest.mark.parametrize(
    ("tested", "hold_out", "sentence"),
    [
        ([500, 500], 0, "Test set: the data's own, 500 images."),
        ([None, None], 0, "Test set: the data's own."),
        (
            [12, 12, 12],
            12,
            "Test set: 12 images of the pool, drawn at random in round 0. Their labels count in the budget: 12 for the "
            "test + 6 initial + 10 queried = 28 asked for.",
        ),
        (
            [10, 11],
            12,
            "Test set: 12 images (10 to 11 images with a label) of the pool, drawn at random in round 0. Their labels "
            "count in the budget: 12 for the test + 6 initial + 5 queried = 23 asked for.",
        ),
        (
            [None],
            1,
            "Test set: 1 image of the pool, drawn at random in round 0. Their labels count in the budget: 1 for the "
            "test + 6 initial + 0 queried = 7 asked for.",
        ),
    ],
)
def test_a_run_says_what_it_was_tested_on(tested: list[int | None], hold_out: int, sentence: str) -> None:
    assert describe_test_set(records(tested), hold_out=hold_out, initial_labels=6) == sentence


def test_the_table_of_a_run_ends_with_it() -> None:
    *_, line = printed(records([12, 12]), hold_out=12)
    assert " ".join(line).startswith("Test set: 12 images of the pool, drawn at random in round 0.")
    *_, line = printed(records([500]))
    assert " ".join(line) == "Test set: the data's own, 500 images."


def note(run: Path, size: int) -> None:
    for record in read_records(run):
        write_record(run, replace(record, test_images=size))


@pytest.mark.parametrize(
    ("size", "worth"), [(8, " One image is 12.5 points of accuracy."), (999, " One image is 0.1 points"), (1000, "")]
)
def test_the_report_says_what_an_image_is_worth_where_they_are_few(size: int, worth: str, runs: Runs) -> None:
    for seed in (0, 1):
        note(runs.add("assl", seed, [0.5, 0.6]), size)
    found = describe_test_set_of(runs.setting())
    assert found.startswith(f"Test set: the data's own, {size:,} images.{worth}")
    assert ("One image" in found) == bool(worth)


def test_runs_on_other_hold_outs_are_not_compared(runs: Runs) -> None:
    for hold_out in (0, 8):
        runs.add("assl", 0, [0.5, 0.6], where=f"of_{hold_out}", changes={"hold_out": hold_out})
    with pytest.raises(ValueError, match="hold_out=8"):
        runs.setting()
    assert [setting.name for setting in runs.settings()] == [
        "digits smallcnn, hold_out=0",
        "digits smallcnn, hold_out=8",
    ]


def test_runs_from_before_there_were_hold_outs_have_none(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6])
    runs.add("random", 0, [0.5, 0.6], changes={"hold_out": 0})
    assert [*runs.setting().methods] == ["assl", "random"]


def test_it_stands_above_the_accuracies(runs: Runs) -> None:
    from assl_lightning.report.sections.accuracy import accuracy_blocks

    note(runs.add("assl", 0, [0.5, 0.6]), 20)
    page = render_markdown(Page("t", (), (Section("Accuracy", accuracy_blocks(runs.setting())),)))
    assert page.index("## Accuracy\n\nTest set: the data's own, 20 images.") < page.index("| labels |")
