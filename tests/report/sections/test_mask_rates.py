from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from assl_lightning.report.sections.mask_rates import mask_rate_blocks
from assl_lightning.report.views import Table

if TYPE_CHECKING:
    from tests.report.conftest import Runs


def say(run: Path, *rates: float | None) -> None:
    """Write the rates into the records of a run."""
    file = run / "rounds.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    said = [{**line, "mask_rate": rate} for line, rate in zip(lines, rates, strict=True)]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in said))


def test_the_table_has_the_mean_over_the_seeds_by_round(runs: Runs) -> None:
    say(runs.add("assl", 0, [0.5, 0.6]), 0.1, 0.5)
    say(runs.add("assl", 1, [0.5, 0.6]), 0.3, None)
    runs.add("random", 0, [0.5, 0.6])
    setting = runs.setting()
    _, table = mask_rate_blocks(setting)
    assert isinstance(table, Table)
    assert table.header == ("pseudo-labels, %", *(f"{labels} labels" for labels in setting.labels))
    assert table.rows == (("assl", "20.0", "50.0"), ("random", "–", "–"))


def test_without_pseudo_labels_there_is_no_section(runs: Runs) -> None:
    runs.add("random", 0, [0.5, 0.6])
    assert mask_rate_blocks(runs.setting()) == ()
