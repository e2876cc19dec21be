"""Run directories that are made from a table of results."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from assl_lightning.report.analysis.grouping import group
from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.tidy import tidy_csv
from benchmarks.regimes.plan import make_sweep
from benchmarks.restore import FROM_RESULTS, RESULTS, TABLE, main, restore

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
METHODS = ("herding", "herding+warm")
SEED = 1003


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a part of the repository's table: one seed of two methods."""
    monkeypatch.chdir(ROOT)
    header, *lines = (RESULTS / "fewer_labels" / TABLE).read_text().splitlines()
    kept = [line for line in lines if line.startswith(tuple(f"digits_tail50,{name},{SEED}," for name in METHODS))]
    path = tmp_path / "results.csv"
    path.write_text("\n".join([header, *kept]) + "\n")
    return path


def test_a_report_has_the_same_table(table: Path, tmp_path: Path) -> None:
    assert restore(table, tmp_path / "runs") == 2

    (setting,) = group(find_runs([tmp_path / "runs"]), by_name=True)
    rows = list(csv.DictReader(tidy_csv([setting]).splitlines()))
    expected = list(csv.DictReader(table.read_text().splitlines()))
    assert len(expected) == len(rows) == 10
    numbers = [name for name in expected[0] if name != "method"]
    assert [[float(row[name] or -1) for name in numbers[1:]] for row in rows] == [
        [float(row[name] or -1) for name in numbers[1:]] for row in expected
    ]


def test_the_plan_leaves_them_out_and_they_are_made_once(table: Path, tmp_path: Path) -> None:
    restore(table, tmp_path / "runs")
    assert make_sweep("digits_tail50", "herding", range(SEED, SEED + 2)).left(tmp_path / "runs") == [SEED + 1]
    assert (tmp_path / f"runs/digits_tail50/herding/seed_{SEED}" / FROM_RESULTS).exists()
    assert restore(table, tmp_path / "runs") == 0


def test_a_run_that_lacks_rounds_is_left_to_be_run(table: Path, tmp_path: Path) -> None:
    table.write_text("".join(line for line in table.read_text().splitlines(True) if f"herding,{SEED},4," not in line))

    assert restore(table, tmp_path / "runs") == 1
    assert not (tmp_path / "runs/digits_tail50/herding").exists()


def test_the_command_says_how_many(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command: Callable[..., object] = main
    command(["fewer_labels", "--results", str(table), "--runs", str(tmp_path / "runs")])

    assert capsys.readouterr().out.startswith("2 runs of ")
