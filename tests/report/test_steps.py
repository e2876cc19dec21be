from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.steps import (
    AccuracyOverSteps,
    draw_steps,
    reaching_table,
    read_accuracies_over_steps,
    read_evaluations,
    steps_csv,
    steps_page,
    summary_table,
)

if TYPE_CHECKING:
    from tests.report.conftest import Runs


def add(runs: Runs, name: str, seed: int, rounds: list[list[float]], **changes: Any) -> None:
    """A run of rounds of tests, each ten steps after the last."""
    run = runs.add(name, seed, [tests[-1] for tests in rounds], steps=10 * len(rounds[0]), **changes)
    for number, tests in enumerate(rounds):
        metrics = {10 * place + 9: (accuracy, accuracy - 0.1) for place, accuracy in enumerate(tests)}
        runs.write_metrics(run / f"round_{number:02d}" / "metrics.csv", metrics)


def courses_of(runs: Runs) -> dict[str, AccuracyOverSteps]:
    return {course.name: course for course in read_accuracies_over_steps(find_runs([runs.root]))}


@pytest.fixture
def two(runs: Runs) -> Runs:
    for seed in (0, 1):
        add(runs, "assl", seed, [[0.3, 0.5], [0.6, 0.9 - 0.1 * seed]])
        add(runs, "random", seed, [[0.2, 0.4, 0.6, 0.7, 0.65, 0.6]], changes={"initial_labels": 50})
    return runs


def test_steps_are_counted_over_all_rounds(two: Runs) -> None:
    tests = courses_of(two)["assl"].evaluations[0]
    assert [(test.round, test.labels, test.step, test.ema) for test in tests] == [
        (0, 10, 10, 0.3),
        (0, 10, 20, 0.5),
        (1, 20, 30, 0.6),
        (1, 20, 40, 0.9),
    ]


def test_a_method_with_two_budgets_is_told_by_them(runs: Runs) -> None:
    add(runs, "assl", 0, [[0.3]])
    add(runs, "assl", 0, [[0.3]], where="more", changes={"initial_labels": 50})
    add(runs, "random", 0, [[0.3]])
    assert set(courses_of(runs)) == {"assl, initial_labels=10", "assl, initial_labels=50", "random"}


def test_runs_without_averaged_weights_have_their_raw_accuracy(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5])
    (run / "round_00").mkdir()
    (run / "round_00" / "metrics.csv").write_text("step,test_accuracy_raw\n4,\n9,0.5\n")
    ((test,),) = (read_evaluations(found) for found in find_runs([run]))
    assert (test.step, test.ema, test.raw) == (10, 0.5, 0.5)


def test_the_summary_has_best_and_last_of_each(two: Runs) -> None:
    rows = summary_table([*courses_of(two).values()]).rows
    assert [row[1:] for row in rows] == [
        ("10 to 20", "85.0 ± 7.1", "40", "85.0 ± 7.1", "40"),
        ("50", "70.0 ± 0.0", "40", "60.0 ± 0.0", "60"),
    ]
    assert rows[0][0].endswith("(n = 2)")


def test_the_first_test_at_least_as_good_as_the_others_last_is_found(two: Runs) -> None:
    table = reaching_table([*courses_of(two).values()])
    assert table.rows[0][1:] == ("", "30 (2 of 2)")  # 60.0 at the random one's end
    assert table.rows[1][1:] == ("never (0 of 2)", "")  # 85.0, the mean of 90 and 80
    assert [heading.rpartition(" ")[2] for heading in table.header[1:]] == ["(85.0)", "(60.0)"]


def test_only_some_seeds_may_get_there(runs: Runs) -> None:
    for seed, last in ((0, 0.9), (1, 0.7)):
        add(runs, "assl", seed, [[0.3, last]])
        add(runs, "random", seed, [[0.3, 0.8]])
    assert reaching_table([*courses_of(runs).values()]).rows[0][2] == "20 (1 of 2)"


def test_the_drawing_is_a_mean_where_seeds_were_tested_at_the_same_steps(two: Runs) -> None:
    axes = draw_steps([*courses_of(two).values()]).axes[0]
    first = axes.lines[0].get_xydata().tolist()  # type: ignore[union-attr]
    assert [x for x, _ in first] == [10, 20, 30, 40]
    assert [y for _, y in first] == pytest.approx([30, 50, 60, 85])
    assert axes.get_xlabel() == "optimizer steps"
    assert len(axes.lines) == 2


def test_the_drawing_is_a_line_a_seed_where_they_were_not(runs: Runs) -> None:
    add(runs, "assl", 0, [[0.3, 0.5]])
    add(runs, "assl", 1, [[0.3, 0.5, 0.6]])
    axes = draw_steps([*courses_of(runs).values()]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["assl, seed 0  50.0", "assl, seed 1  60.0"]


def test_the_page_warns_of_labels_and_of_few_seeds(two: Runs) -> None:
    page = steps_page([*courses_of(two).values()], None)
    (lead,) = page.lead
    assert lead.startswith("2 methods, 2 seeds each. Their numbers of labels differ")
    assert "With fewer than 5 seeds these differences cannot be tested" in lead
    assert [section.title for section in page.sections] == [
        "Accuracy against steps",
        "Who gets there first",
        "Versions",
    ]


def test_five_seeds_of_one_method_need_no_warning(runs: Runs) -> None:
    for seed in range(5):
        add(runs, "assl", seed, [[0.3, 0.5]])
    page = steps_page([*courses_of(runs).values()], "Title")
    assert page.lead == ("1 method, 5 seeds each.",)
    assert [section.title for section in page.sections] == ["Accuracy against steps", "Versions"]


def test_the_csv_has_a_row_a_test(two: Runs) -> None:
    rows = list(csv.DictReader(io.StringIO(steps_csv([*courses_of(two).values()]))))
    assert len(rows) == 2 * (4 + 6)
    assert rows[3] == {
        **{"method": "assl", "seed": "0", "round": "1", "labels": "20"},
        **{"step": "40", "test_accuracy_ema": "0.9", "test_accuracy_raw": "0.8"},
    }


def test_other_data_cannot_be_compared_step_by_step(runs: Runs) -> None:
    add(runs, "assl", 0, [[0.3]], changes={"data.root": "here"})
    add(runs, "random", 0, [[0.3]], changes={"data.root": "there"})
    assert len(courses_of(runs)) == 2
    add(runs, "entropy", 0, [[0.3]], changes={"data.name": "svhn"})
    with pytest.raises(ValueError, match=r"same data and network .* \(data\.name was 'digits', now 'svhn'\)"):
        courses_of(runs)


def test_a_round_without_metrics_is_named(runs: Runs) -> None:
    runs.add("assl", 0, [0.5])
    with pytest.raises(ValueError, match=r"round_00/metrics\.csv is missing, .* trainer/logger=csv"):
        courses_of(runs)


def test_metrics_without_a_test_are_named(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5])
    runs.write_metrics(run / "round_00" / "metrics.csv", {})
    with pytest.raises(ValueError, match="has no row with test_accuracy_raw"):
        courses_of(runs)
