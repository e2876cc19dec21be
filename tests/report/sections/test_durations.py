from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.loop.warm_up_record import WarmUpRecord, write_warm_up
from assl_lightning.report.sections.durations import time_blocks
from assl_lightning.report.views import Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs


def test_the_table_has_medians_over_rounds_and_seeds(runs: Runs) -> None:
    for seed, acquire in enumerate((0.05, 0.07, 99.0)):
        runs.add("assl", seed, [0.5, 0.6], seconds={"train": 100.0 * (seed + 1), "acquire": acquire})
    _, table = time_blocks(runs.setting())
    assert isinstance(table, Table)
    assert table.header == ("seconds", "rounds × seeds", "training", "testing", "choosing", "labelling")
    assert table.rows == (("assl", "2 × 3", "200", "–", "0.07", "–"),)


def test_a_warm_up_has_a_table_of_its_own(runs: Runs) -> None:
    for seed, loss in enumerate((4.5, None, 4.7)):
        run = runs.add("assl", seed, [0.5, 0.6], seconds={"train": 1.0}, changes={"warm_up": {"_target_": "a.SimCLR"}})
        record = WarmUpRecord(400, 1297 - seed, loss, skipped_steps=0, seconds=10.0 * (seed + 1), samples="")
        write_warm_up(run, record)
    runs.add("random", 0, [0.5, 0.6], seconds={"train": 1.0})
    _, warm_up, rounds = time_blocks(runs.setting())
    assert isinstance(warm_up, Table)
    assert isinstance(rounds, Table)
    (row,) = warm_up.rows
    assert row == (rounds.rows[0][0], "3", "400", "1,295 to 1,297", "4.60", "20.0")


def test_records_without_times_have_no_section(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    assert time_blocks(runs.setting()) == ()
