"""What is drawn, read from the figures' axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from numpy.testing import assert_allclose

from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.labels_needed.figures import draw_needed, draw_regimes, shown_methods
from assl_lightning.report.labels_needed.regimes import Question, Regime, find_regimes

if TYPE_CHECKING:
    from tests.report.conftest import Runs

RANDOM = [[0.4, 0.5, 0.6], [0.5, 0.6, 0.7], [0.3, 0.5, 0.7]]


@pytest.fixture
def regimes(runs: Runs) -> list[Regime]:
    for name in ("a", "b", "c", "d"):
        for number, method in enumerate(("random", "herding", "low")):
            table = (np.array(RANDOM) + (0, 0.1, -0.25)[number]).round(6).tolist()
            if not (name == "d" and method == "herding"):
                runs.method(method, table, where=f"{name}/{method}", changes={"name": name})
    return find_regimes(find_runs([runs.root]), Question())


def test_the_methods_that_are_named_come_first_and_the_others_follow(regimes: list[Regime]) -> None:
    assert shown_methods(regimes, ("low", "unknown")) == ("low", "herding", "random")


def test_more_methods_than_colours_are_all_drawn_and_differ_from_each_other(runs: Runs) -> None:
    names = ["random", *(f"m{number:02d}" for number in range(12))]
    for number, method in enumerate(names):
        runs.method(method, (np.array(RANDOM) + 0.01 * number).round(6).tolist(), where=method, changes={"name": "a"})
    regimes = find_regimes(find_runs([runs.root]), Question())
    shown = shown_methods(regimes, ("random",))
    assert [*shown] == names

    curves = draw_regimes(regimes, shown)
    lines = curves.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == len(names)
    assert [text.get_text() for text in curves.legends[0].get_texts()] == names
    assert not curves.axes[0].collections, "no band, and the axis says so"
    assert "mean over seeds" in curves.get_supylabel()

    bars = draw_needed(regimes, shown).axes[0].patches
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == len(names) - 1, "all but the baseline"


def test_each_regime_has_a_panel_with_the_mean_curves_of_its_methods(regimes: list[Regime]) -> None:
    figure = draw_regimes(regimes, ("random", "herding"), "Title")
    panels = [axes for axes in figure.axes if axes.axison]

    assert [axes.get_title(loc="left") for axes in panels] == ["a", "b", "c", "d"]
    assert [len(axes.get_lines()) for axes in panels] == [2, 2, 2, 1]
    random = panels[0].get_lines()[0]
    assert random.get_label() == "random"
    assert_allclose(np.asarray(random.get_ydata(), float), [40, 160 / 3, 200 / 3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "herding"]


def test_a_method_has_a_bar_in_each_regime_but_the_baseline_has_none(regimes: list[Regime]) -> None:
    figure = draw_needed(regimes, ("random", "herding", "low"), "Title")
    (axes,) = figure.axes
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]

    ratios = [result.needed.ratio for regime in regimes for result in regime.results.values() if result.needed]
    drawn = [min(ratio, 2.0) for ratio in ratios if ratio != 1]
    assert_allclose(sorted(widths), sorted(drawn))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]
    assert [text.get_text() for text in axes.texts] == ["never"] * 4
