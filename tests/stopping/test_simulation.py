"""The simulation of stopping rules over finished runs, on two runs that are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from assl_lightning.stopping.rules import Progress, StopOnAccuracy, StopOnPlateau
from benchmarks.stopping import RULES, Outcome, forecasts, outcome, read_runs, tables

COURSE = [0.5, 0.7, 0.71, 0.705, 0.8]
COLUMNS = "predictions_compared,predictions_agreeing,kappa,kappa_same_labels"
RESULTS = f"""setting,method,seed,round,labels,test_accuracy_ema,{COLUMNS}
digits,herding,0,0,10,0.5,,,,
digits,herding,0,2,30,0.9,100,97,0.96,
digits,herding,0,1,20,0.8,100,90,0.85,0.9
digits,random,0,0,10,0.4,,,,
"""


def rounds(accuracies: list[float]) -> list[Progress]:
    return [Progress(number, 10 * (number + 1), accuracy) for number, accuracy in enumerate(accuracies)]


def test_labels_of_rounds_after_the_end_are_saved_and_their_accuracy_is_lost() -> None:
    # at round 3 the last two rounds, at best 0.71, gained 0.01 over 0.7
    found = outcome(StopOnPlateau(min_gain=0.02, rounds=2), rounds(COURSE))
    assert found.is_ended
    assert found.saved == pytest.approx(1 - 40 / 50)
    assert found.lost == pytest.approx(0.8 - 0.705)


def test_a_rule_that_decides_after_the_last_round_saves_nothing() -> None:
    assert outcome(StopOnAccuracy(accuracy=0.8), rounds(COURSE)) == Outcome(False, 0.0, 0.0)


def test_every_accuracy_after_the_fourth_round_is_expected_from_those_before() -> None:
    found = forecasts(rounds([*COURSE, 0.81]))
    assert [of.rounds for of in found] == [4, 5]
    assert [of.error_of_last for of in found] == pytest.approx([0.8 - 0.705, 0.01])
    assert all(of.is_inside for of in found)


def test_a_results_file_becomes_runs_in_the_order_of_their_rounds(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text(RESULTS)
    (run,) = read_runs(path)
    assert [of.labels for of in run] == [10, 20, 30]
    assert [of.agreement and of.agreement.kappa for of in run] == [None, 0.85, 0.96]
    assert [of.floor and of.floor.kappa for of in run] == [None, 0.9, None]


def test_the_tables_have_a_row_for_each_rule_that_can_decide(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(RESULTS)
    runs = read_runs(tmp_path / "results.csv")
    without = [[Progress(of.round, of.labels, of.accuracy) for of in run] for run in runs]
    text = tables({"new": runs, "old": without})
    assert sum(line.startswith("| new |") for line in text.splitlines()) == len(RULES)
    assert sum(line.startswith("| old |") for line in text.splitlines()) == 5
    assert "| new | accuracy=0.9 | 1 | 0.0 | 0.0 | 0.0 | 0.0 |" in text
