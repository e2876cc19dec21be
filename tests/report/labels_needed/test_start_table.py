"""The table of rules and starts, by hand."""

from __future__ import annotations

from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.labels_needed.regimes import Question, find_regimes
from assl_lightning.report.labels_needed.tables import start_table
from assl_lightning.report.views import Paragraph, Table
from tests.report.conftest import Runs

AT_RANDOM = {"initial_acquisition": "random"}
PIXELS = {"initial_acquisition": "herding", "initial_features": "pixels"}


def table_of(runs: Runs) -> Table | Paragraph:
    (regime,) = find_regimes(find_runs([runs.root]), Question(by_directory=True))
    return start_table(regime)


def test_rules_with_each_start_are_compared_over_the_seeds_that_all_have(runs: Runs) -> None:
    for seed, accuracy in enumerate((0.2, 0.4, 0.9, 0.9)):
        runs.add("random", seed, [accuracy] * 3, changes=AT_RANDOM)
    for seed, accuracy in enumerate((0.5, 0.5)):
        runs.add("random", seed, [accuracy] * 3, where="random+pixels", changes=PIXELS)
    for seed, accuracy in enumerate((0.6, 0.7, 0.1)):
        runs.add("herding", seed, [accuracy] * 3, changes=AT_RANDOM)
    table = table_of(runs)

    assert isinstance(table, Table)
    assert table.caption.endswith("mean ± s.d. over the 2 seeds that all of them have")
    assert table.header == ("rule", "random", "herding of pixels")
    assert dict(zip(("herding", "random"), table.rows, strict=True)) == {
        "herding": ("herding", "65.0 ± 7.1", ""),
        "random": ("random", "30.0 ± 14.1", "50.0 ± 0.0"),
    }


def test_without_common_seeds_each_method_stands_over_its_own(runs: Runs) -> None:
    for seed in (0, 1):
        runs.add("random", seed, [0.2 + 0.2 * seed] * 3, changes=AT_RANDOM)
        runs.add("random", 5 + seed, [0.5] * 3, where="random+pixels", changes=PIXELS)
    table = table_of(runs)

    assert isinstance(table, Table)
    assert table.caption.endswith("mean ± s.d. over the seeds of each")
    assert table.rows == (("random", "30.0 ± 14.1", "50.0 ± 0.0"),)


def test_one_start_is_a_sentence(runs: Runs) -> None:
    runs.method("random", [[0.4, 0.5, 0.6], [0.5, 0.6, 0.7]])

    assert table_of(runs) == Paragraph("All methods of digits have one start: random.")
