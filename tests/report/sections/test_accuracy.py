from __future__ import annotations

from math import isnan
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np
import pytest

from assl_lightning.report.curve import MOST_TOGETHER
from assl_lightning.report.sections.accuracy import (
    accuracy_blocks,
    accuracy_label,
    accuracy_table,
    curve_of,
    draw_accuracy,
    last_round_table,
)
from assl_lightning.report.views import Illustration

if TYPE_CHECKING:
    from tests.report.conftest import Runs

SEEDS = [[0.5, 0.9, 0.95], [0.6, 0.8, 0.85], [0.55, 0.95, 0.9]]


def test_the_table_has_mean_and_sample_deviation_of_each_round_and_the_area(runs: Runs) -> None:
    runs.method("assl", SEEDS)
    table = accuracy_table(runs.setting())
    areas = [100 * ((a + b) / 2 * 10 + (b + c) / 2 * 10) / 20 for a, b, c in SEEDS]
    cells = [f"{fmean(x):.1f} ± {stdev(x):.1f}" for x in [[100 * row[r] for row in SEEDS] for r in range(3)] + [areas]]
    assert table.header == ("labels", "10", "20", "30", "AUBC")
    assert table.rows == (("assl (n = 3)", *cells),)


def test_one_seed_has_no_deviation(runs: Runs) -> None:
    runs.add("assl", 7, [0.5, 0.6])
    setting = runs.setting()
    assert accuracy_table(setting).rows == (("assl (n = 1)", "50.0", "60.0", "55.0"),)
    assert not curve_of(setting.methods["assl"], setting.labels).deviation


def test_the_last_round_leaves_out_what_no_run_knows(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6])
    runs.add("random", 0, [0.5, 0.7])
    table = last_round_table(runs.setting())
    assert table.header == ("last round", "EMA", "raw")
    assert table.rows == (("assl (n = 1)", "60.0", "59.0"), ("random (n = 1)", "70.0", "69.0"))


def test_the_last_round_has_balanced_accuracy_where_a_run_knows_it(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, 0.6], balanced=0.4)
    runs.add("random", 0, [0.5, 0.7])
    table = last_round_table(runs.setting())
    assert table.header == ("last round", "EMA", "raw", "EMA, balanced")
    assert [row[-1] for row in table.rows] == ["40.0", "–"]


def test_the_curves_are_means_over_seeds(runs: Runs) -> None:
    runs.method("assl", SEEDS)
    runs.add("random", 0, [0.4, 0.5, 0.6])
    axes = draw_accuracy(runs.setting(), "digits").axes[0]
    first, second = (line.get_xydata().tolist() for line in axes.lines)  # type: ignore[union-attr]
    assert [x for x, _ in first] == [10, 20, 30]
    assert [y for _, y in first] == pytest.approx([100 * fmean(values) for values in zip(*SEEDS, strict=True)])
    assert [y for _, y in second] == pytest.approx([40, 50, 60])
    assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    assert axes.get_title(loc="left") == "digits"
    assert axes.get_ylabel() == "test accuracy (%), mean ± s.d. of 1 to 3 seeds"


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([1, 1], "one seed"), ([3, 3], "mean ± s.d. of 3 seeds"), ([2, 1], "mean ± s.d. of 1 to 2 seeds")],
)
def test_the_axis_says_how_many_seeds_there_are(seeds: list[int], text: str) -> None:
    assert accuracy_label(seeds) == f"test accuracy (%), {text}"


def test_an_unknown_accuracy_is_no_number(runs: Runs) -> None:
    runs.add("assl", 0, [0.5, float("nan")])
    setting = runs.setting()
    assert isnan(curve_of(setting.methods["assl"], setting.labels).mean[-1])
    assert accuracy_table(setting).rows[0][2] == "–"


def test_more_methods_than_one_plot_can_show_have_a_panel_each_beside_random(runs: Runs) -> None:
    names = ["random", *(f"m{number}" for number in range(MOST_TOGETHER))]
    for place, name in enumerate(names):
        runs.method(name, [[0.5, 0.6 + place / 100], [0.5, 0.7]])
    setting = runs.setting()
    figure = draw_accuracy(setting, "digits")
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title(loc="left").split()[0] for axes in panels] == list(setting.methods)
    for axes, method in zip(panels, setting.methods.values(), strict=True):
        dashed, own = axes.lines
        assert dashed.get_linestyle() == "--"
        assert np.asarray(dashed.get_ydata()).tolist() == list(curve_of(setting.methods["random"], setting.labels).mean)
        assert np.asarray(own.get_ydata()).tolist() == list(curve_of(method, setting.labels).mean)
        assert axes.get_ylim() == panels[0].get_ylim()
        assert len(axes.collections) == 1, "the band"
    figure_block = accuracy_blocks(setting)[1]
    assert isinstance(figure_block, Illustration)
    assert figure_block.caption.endswith("a panel for each method, with its last value, dashed: random.")
