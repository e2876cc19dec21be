"""Two regimes whose numbers are worked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.labels_needed.regimes import Question, Regime, find_regimes

if TYPE_CHECKING:
    from tests.report.conftest import Runs

RANDOM = [[0.4, 0.5, 0.6], [0.5, 0.6, 0.7], [0.3, 0.5, 0.7], [0.4, 0.6, 0.6], [0.4, 0.4, 0.6]]
HERDING = [[0.5, 0.7, 0.8], [0.6, 0.7, 0.8], [0.4, 0.7, 0.8], [0.5, 0.7, 0.8], [0.6, 0.7, 0.7]]


def add(runs: Runs, regime: str, method: str, table: Sequence[Sequence[float]], **changes: object) -> None:
    runs.method(method, table, where=f"{regime}/{method}", changes={"name": regime, **changes})


@pytest.fixture
def two(runs: Runs) -> Runs:
    for regime, noise, shift in (("easy", 0.0, 0.1), ("wrong", 0.2, 0.0)):
        add(runs, regime, "random", RANDOM, **{"oracle.noise": noise})
        table = (np.array(HERDING) - 0.1 + shift).round(6).tolist()
        add(runs, regime, "herding", table, **{"oracle.noise": noise})
    return runs


def regimes_of(runs: Runs, question: Question | None = None) -> dict[str, Regime]:
    return {regime.name: regime for regime in find_regimes(find_runs([runs.root]), question or Question())}


def test_runs_of_a_name_are_a_regime_though_the_share_of_wrong_answers_differs(two: Runs) -> None:
    regimes = regimes_of(two)

    assert {name: [*regime.results] for name, regime in regimes.items()} == {
        "easy": ["herding", "random"],
        "wrong": ["herding", "random"],
    }


def test_differences_over_the_budget_and_of_the_last_round_are_those_seed_by_seed(two: Runs) -> None:
    result = regimes_of(two)["easy"].results["herding"]
    areas = [[0.25 * row[0] + 0.5 * row[1] + 0.25 * row[2] for row in table] for table in (HERDING, RANDOM)]
    difference = np.subtract(areas[0], areas[1])
    against = result.against["random"]

    assert_allclose(result.aubc, areas[0])
    assert_allclose(result.last, [row[-1] for row in HERDING])
    assert_allclose(against.aubc.interval.mean, difference.mean())
    assert_allclose(against.aubc.p_value, stats.ttest_1samp(difference, 0).pvalue)
    assert_allclose(against.last.interval.mean, np.mean([0.2, 0.1, 0.1, 0.2, 0.1]))
    limit = difference.mean() - stats.t.ppf(0.95, 4) * stats.sem(difference)
    assert_allclose(against.not_worse.bound, limit)
    assert against.is_not_worse


def test_p_is_corrected_for_the_regimes_of_a_method(two: Runs) -> None:
    regimes = regimes_of(two)
    easy, wrong = (regimes[name].results["herding"].against["random"] for name in ("easy", "wrong"))

    assert easy.aubc.p_value < wrong.aubc.p_value
    assert_allclose(easy.holm, 2 * easy.aubc.p_value)
    assert_allclose(wrong.holm, max(wrong.aubc.p_value, easy.holm))
    assert (easy.verdict, wrong.verdict) == ("better", "not worse")


def test_labels_needed_are_those_of_the_mean_curves(two: Runs) -> None:
    needed = regimes_of(two)["easy"].results["herding"].needed

    # random: 0.4, 0.52, 0.64, target 0.576; herding: 0.52, 0.7, 0.78; labels 10, 20, 30 of the runs
    assert needed is not None
    labels = [run.labels for run in find_runs([two.root])[0].records]
    first, gap = labels[0], labels[1] - labels[0]
    assert_allclose(needed.target, 0.576)
    assert_allclose(needed.labels, first + gap * (0.576 - 0.52) / 0.18)
    assert_allclose(needed.reference, first + gap + gap * (0.576 - 0.52) / 0.12)


def test_a_baseline_is_not_compared_with_itself_and_its_ratio_is_one(two: Runs) -> None:
    result = regimes_of(two, Question(("random", "herding")))["wrong"].results["random"]

    assert [*result.against] == ["herding"]
    assert result.needed is not None
    assert result.needed.ratio == 1


def test_a_long_tail_is_measured_by_balanced_accuracy(runs: Runs) -> None:
    for method, balanced in (("random", 0.2), ("herding", 0.3)):
        where, changes = f"tail/{method}", {"name": "tail", "data.imbalance_factor": 20}
        runs.method(method, RANDOM, where=where, changes=changes, balanced=balanced)
    regime = regimes_of(runs)["tail"]

    assert regime.which == "balanced"
    assert_allclose(regime.results["herding"].aubc, [0.3] * 5)


def test_differences_are_over_common_seeds_and_few_of_them_have_no_verdict(runs: Runs) -> None:
    add(runs, "easy", "random", RANDOM[:2])
    add(runs, "easy", "herding", HERDING)
    result = regimes_of(runs)["easy"].results["herding"]

    assert len(result.aubc) == 5
    assert result.against["random"].aubc.interval.n == 2
    assert result.against["random"].verdict == "too few seeds"


def test_a_verdict_is_worse_or_open_where_that_is_what_is_seen(runs: Runs) -> None:
    add(runs, "easy", "random", RANDOM)
    add(runs, "easy", "worse", (np.array(RANDOM) - np.linspace(0.05, 0.06, 5)[:, None]).tolist())
    add(runs, "easy", "open", (np.array(RANDOM) + np.array([0.2, -0.2, 0.1, -0.1, 0.02])[:, None]).tolist())
    results = regimes_of(runs)["easy"].results

    assert results["worse"].against["random"].verdict == "worse"
    assert results["open"].against["random"].verdict == "open"


def test_runs_that_are_not_complete_are_left_out(two: Runs) -> None:
    directory = two.root / "easy" / "herding" / "seed_0"
    records = (directory / "rounds.jsonl").read_text().splitlines()
    (directory / "rounds.jsonl").write_text(f"{records[0]}\n")

    regime = regimes_of(two)["easy"]

    assert len(regime.results["herding"].aubc) == 4
    assert len(regime.setting.labels) == 3, "the other runs keep all their rounds"


def test_methods_are_called_by_their_directories_and_their_rules_are_still_known(two: Runs) -> None:
    changes = {"name": "easy", "oracle.noise": 0.0, "initial_acquisition": "herding"}
    two.method("herding", HERDING, where="easy/warm", changes=changes)
    regime = regimes_of(two, Question(by_directory=True))["easy"]

    assert regime.rules == {"herding": "herding", "random": "random", "warm": "herding"}
    assert regime.results["warm"].method == "warm"


@pytest.mark.parametrize("where", ["easy/random", "easy/again/random"])
def test_directories_that_do_not_tell_methods_are_refused(runs: Runs, where: str) -> None:
    add(runs, "easy", "random", RANDOM[:2])
    runs.add("herding", 7, HERDING[0], where=where, changes={"name": "easy"})
    if where == "easy/again/random":
        runs.add("random", 8, HERDING[0], where="easy/elsewhere", changes={"name": "easy"})

    with pytest.raises(ValueError, match=r"--by-directory: the runs of a method must lie in one directory"):
        regimes_of(runs, Question(by_directory=True))


def test_a_baseline_that_no_regime_has_is_named_with_those_that_there_are(two: Runs) -> None:
    with pytest.raises(ValueError, match=r"--baseline margin: must be one of the methods: herding; random"):
        regimes_of(two, Question(("random", "margin")))


def test_without_a_complete_run_there_is_nothing_to_compare(runs: Runs) -> None:
    directory = runs.add("random", 0, [0.4, 0.5])
    records = (directory / "rounds.jsonl").read_text().splitlines()
    (directory / "rounds.jsonl").write_text(f"{records[0]}\n")

    with pytest.raises(ValueError, match="none of the 1 runs is complete"):
        find_regimes(find_runs([runs.root]), Question())
