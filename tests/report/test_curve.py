from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import nan
from pathlib import Path
from statistics import fmean, stdev

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from PIL import Image

from assl_lightning.report.curve import plot_comparison, plot_curve, spread_apart


@dataclass(frozen=True)
class Result:
    round: int
    labels: int
    test_accuracy_ema: float
    test_accuracy_raw: float
    queried: Sequence[int] = ()
    coverage: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def make_run(accuracies: Sequence[float], start: int = 10) -> list[Result]:
    return [Result(r, start + 10 * r, value, value - 0.1) for r, value in enumerate(accuracies)]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, each as it is when it is saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def remember(self: Figure, *args: object, **kwargs: object) -> None:
        saved.append(self)
        save(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved


def drawn(figure: Figure) -> list[tuple[list[float], list[float]]]:
    return [tuple(np.transpose(line.get_xydata()).tolist()) for line in figure.axes[0].lines]


def written(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_run_is_two_lines_in_per_cent_against_labels(tmp_path: Path, figures: list[Figure]) -> None:
    plot_curve(make_run([0.5, 0.75]), tmp_path / "report" / "curve.png", title="digits")
    (figure,) = figures
    (axes,) = figure.axes
    assert drawn(figure) == [([10, 20], [40.0, 65.0]), ([10, 20], [50.0, 75.0])]
    assert axes.lines[0].get_linewidth() < axes.lines[1].get_linewidth()
    assert written(figure) == ["raw weights  65.0", "EMA weights  75.0"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labelled samples", "test accuracy (%)")
    assert axes.get_title(loc="left") == "digits"
    with Image.open(tmp_path / "report" / "curve.png") as image:
        assert image.format == "PNG"
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["curve.png"]


def test_a_run_without_averaged_weights_shows_the_raw_ones(tmp_path: Path, figures: list[Figure]) -> None:
    plot_curve([Result(0, 10, nan, 0.4), Result(1, 20, nan, 0.5)], tmp_path / "curve.png")
    assert written(figures[0]) == ["raw weights  50.0"]


@pytest.mark.parametrize("rounds", [1, 2, 11, 40])
def test_any_number_of_rounds_is_drawn_with_ticks_at_rounds(rounds: int, tmp_path: Path, figures: list[Figure]) -> None:
    run = make_run([0.5] * rounds)
    plot_curve(run, tmp_path / "curve.svg")
    ticks = figures[0].axes[0].get_xticks()
    assert 1 <= len(ticks) <= 8
    assert set(ticks) <= {record.labels for record in run}
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_a_method_is_the_mean_over_seeds_with_a_band_of_one_standard_deviation(
    tmp_path: Path, figures: list[Figure]
) -> None:
    seeds = [make_run(values) for values in ([0.5, 0.7], [0.6, 0.9], [0.4, 0.8])]
    plot_comparison({"ASSL": seeds, "random": seeds[:1]}, tmp_path / "comparison.png", "digits")
    (figure,) = figures
    (axes,) = figure.axes
    (x, mean), (_, single) = drawn(figure)
    assert x == [10, 20]
    assert mean == pytest.approx([100 * fmean([0.5, 0.6, 0.4]), 100 * fmean([0.7, 0.9, 0.8])])
    assert single == pytest.approx([50, 70])
    (band,) = (item for item in axes.collections if isinstance(item, PolyCollection))
    corners = {(x, round(y, 6)) for x, y in np.asarray(band.get_paths()[0].vertices).tolist()}
    for labels, values in ((10.0, [50, 60, 40]), (20.0, [70, 90, 80])):
        for sign in (-1, 1):
            assert (labels, round(fmean(values) + sign * stdev(values), 6)) in corners
    assert written(figure) == ["ASSL  80.0", "random  70.0"]
    assert axes.get_ylabel() == "test accuracy (%), mean ± s.d. of 1 to 3 seeds"


def test_lines_of_many_methods_can_be_told_apart(tmp_path: Path, figures: list[Figure]) -> None:
    plot_comparison({f"method {n}": [make_run([0.5, 0.6])] for n in range(12)}, tmp_path / "comparison.png")
    lines = figures[0].axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    extents = sorted(text.get_window_extent().intervaly.tolist() for text in figures[0].axes[0].texts)
    assert all(below[1] <= above[0] + 1 for below, above in pairwise(extents))


def test_seeds_with_other_numbers_of_labels_are_an_error_that_names_the_method(tmp_path: Path) -> None:
    runs = [make_run([0.5, 0.6]), make_run([0.5])]
    with pytest.raises(ValueError, match=r"ASSL: its seeds .* seed 1 of the list has \[10\] and seed 0 has \[10, 20\]"):
        plot_comparison({"ASSL": runs}, tmp_path / "comparison.png")
    assert not list(tmp_path.iterdir())


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one complete round"):
        plot_curve([], tmp_path / "curve.png")
    with pytest.raises(ValueError, match="no method to draw"):
        plot_comparison({}, tmp_path / "curve.png")
    empty: list[list[list[Result]]] = [[], [[]]]
    for runs in empty:
        with pytest.raises(ValueError, match="ASSL has no round to draw"):
            plot_comparison({"ASSL": runs}, tmp_path / "curve.png")


def test_drawing_touches_no_global_state(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plot_curve(make_run([0.5, 0.6]), tmp_path / "curve.png")
    assert dict(matplotlib.rcParams) == before


@given(st.lists(st.floats(-100, 100), max_size=12), st.floats(0, 20))
def test_places_that_are_spread_keep_their_order_their_centre_and_the_gap(places: list[float], gap: float) -> None:
    spread = spread_apart(places, gap)
    order = sorted(range(len(places)), key=lambda position: places[position])
    for before, after in pairwise(order):
        assert spread[after] - spread[before] >= gap - 1e-9
    assert sum(spread) == pytest.approx(sum(places), abs=1e-6)


def test_places_that_are_far_enough_apart_stay() -> None:
    assert spread_apart([5.0, 0.0, 12.0], 4.0) == [5.0, 0.0, 12.0]
    assert spread_apart([0.0, 1.0], 4.0) == [-1.5, 2.5]
