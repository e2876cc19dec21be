from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from scipy.stats import ttest_rel

from assl_lightning.loop.records import read_records, write_record
from assl_lightning.report.conclusions import conclusions
from assl_lightning.report.sections.contrasts import contrasts

if TYPE_CHECKING:
    from tests.report.conftest import Runs

RANDOM = [[0.50, 0.60], [0.52, 0.63], [0.48, 0.58], [0.51, 0.60], [0.49, 0.61]]
BETTER = [[0.50, 0.70], [0.52, 0.74], [0.48, 0.69], [0.51, 0.71], [0.49, 0.70]]
SAME = [[0.50, 0.61], [0.52, 0.60], [0.48, 0.60], [0.51, 0.58], [0.49, 0.62]]


def read(runs: Runs) -> str:
    setting = runs.setting()
    return conclusions(setting, contrasts(setting, "random"))


def numbers(ours: list[list[float]], theirs: list[list[float]], *, area: bool = False) -> str:
    """The mean difference in points with its interval, by SciPy; the area of two rounds is their mean."""
    first, second = ([100 * (fmean(row) if area else row[-1]) for row in rows] for rows in (ours, theirs))
    bounds = ttest_rel(first, second).confidence_interval(0.95)
    mean = fmean(first) - fmean(second)
    return f"{mean:+.1f} [{bounds.low:+.1f}, {bounds.high:+.1f}], n = {len(ours)}".replace("-", "−")


def test_five_seeds_are_read_with_their_intervals(runs: Runs) -> None:
    runs.method("better", BETTER)
    runs.method("random", RANDOM)
    runs.method("same", SAME)
    text = read(runs)
    assert text.startswith("3 methods, 5 seeds each, 5 of them common to all; 2 trainings a run, with 10 to 20 labels.")
    assert f"After the last round, better is above random ({numbers(BETTER, RANDOM)}), by a paired t test" in text
    assert "corrected for 2 comparisons (Holm)" in text
    assert f"After the last round, same ({numbers(SAME, RANDOM)}) is not significantly different from random." in text
    area = numbers(BETTER, RANDOM, area=True)
    assert text.endswith(f"Over the whole budget (AUBC), better is above random ({area}).")


def test_a_method_that_is_worse_is_said_to_be_below(runs: Runs) -> None:
    runs.method("worse", RANDOM)
    runs.method("random", BETTER)
    assert f"worse is below random ({numbers(RANDOM, BETTER)})" in read(runs)


def test_four_seeds_cannot_tell_however_clear_they_look(runs: Runs) -> None:
    runs.method("better", BETTER[1:])
    runs.method("random", RANDOM[1:])
    text = read(runs)
    claim = numbers(BETTER[1:], RANDOM[1:])
    assert f"better ({claim}): fewer than 5 seeds shared with random, too few for a test; the numbers" in text
    assert "is above" not in text
    assert "AUBC" not in text


def test_nothing_that_can_be_told_over_the_budget_is_said(runs: Runs) -> None:
    runs.method("same", SAME)
    runs.method("random", RANDOM)
    assert read(runs).endswith("Over the whole budget (AUBC), none is significantly different from random.")


def test_one_method_is_counted_and_not_compared(runs: Runs) -> None:
    run = runs.add("assl", 0, [0.5, 0.8])
    assert conclusions(runs.setting(), None) == "assl, seed 0: 2 trainings, with 10 to 20 labels."
    write_record(run, replace(read_records(run)[1], test_images=10))
    assert conclusions(runs.setting(), None).startswith(
        "Trained with 20 labels, it is right on 80.0 % of 10 test images (95 % interval 49.0 to 94.3). assl, seed 0: 2 "
    )
    runs.add("assl", 1, [0.5, 0.8])
    assert conclusions(runs.setting(), None) == "1 method, 2 seeds each; 2 trainings a run, with 10 to 20 labels."


def test_what_is_compared_is_said_where_not_all_runs_have_as_many_rounds(runs: Runs) -> None:
    runs.method("random", [[0.50, 0.60], [0.52, 0.63], [0.48, 0.58]])
    runs.add("assl", 0, [0.5, 0.7, 0.9], changes={"rounds": 2})
    runs.add("assl", 1, [0.5, 0.7, 0.9, 0.95], changes={"rounds": 4})
    assert (
        "2 trainings a run, with 10 to 20 labels. 1 run of 5 not finished yet. Everything, the AUBC too, is over the "
        "first 2 trainings, which all runs have: assl with seed 0 and assl with seed 1 have up to 4; results.csv has "
        "all rounds."
    ) in read(runs)
    runs.add("assl", 2, [0.5], changes={"rounds": 1})
    assert "is over the first training alone: assl with seed 2 has no more; results.csv" in read(runs)
