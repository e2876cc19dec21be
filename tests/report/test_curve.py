from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import nan
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from PIL import Image

from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.curve import Curve, draw_curves, plot_curve, spread_apart
from assl_lightning.report.drawing import style_of, svg


def make_record(number: int, labels: int, ema: float, raw: float) -> RoundRecord:
    return RoundRecord(number, labels, 0, 600, ema, raw)


def make_run(accuracies: Sequence[float], start: int = 10) -> list[RoundRecord]:
    return [make_record(r, start + 10 * r, value, value - 0.1) for r, value in enumerate(accuracies)]


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
    plot_curve([make_record(0, 10, 0.4, 0.4), make_record(1, 20, 0.5, 0.5)], tmp_path / "curve.png")
    assert written(figures[0]) == ["accuracy  50.0"]


@pytest.mark.parametrize("rounds", [1, 2, 11, 40])
def test_any_number_of_rounds_is_drawn_with_ticks_at_rounds(rounds: int, tmp_path: Path, figures: list[Figure]) -> None:
    run = make_run([0.5] * rounds)
    plot_curve(run, tmp_path / "curve.svg")
    ticks = figures[0].axes[0].get_xticks()
    assert 1 <= len(ticks) <= 8
    assert set(ticks) <= {record.labels for record in run}
    assert (tmp_path / "curve.svg").read_text().startswith("<?xml")


def test_a_curve_has_a_band_of_its_deviation() -> None:
    figure = draw_curves([Curve("ASSL", [10, 20], [50.0, 80.0], [10.0, 5.0])])
    (band,) = (item for item in figure.axes[0].collections if isinstance(item, PolyCollection))
    corners = {(x, round(y, 6)) for x, y in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert {(10.0, 40.0), (10.0, 60.0), (20.0, 75.0), (20.0, 85.0)} <= corners
    assert written(figure) == ["ASSL  80.0"]


def test_lines_of_many_methods_can_be_told_apart_without_colour() -> None:
    figure = draw_curves([Curve(f"method {n}", [10, 20], [50.0, 60.0], style=style_of(n)) for n in range(12)])
    lines = figure.axes[0].lines
    assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 12
    extents = sorted(text.get_window_extent().intervaly.tolist() for text in figure.axes[0].texts)
    assert all(below[1] <= above[0] + 1 for below, above in pairwise(extents))


def test_a_name_too_long_for_a_lines_end_goes_into_a_legend() -> None:
    figure = draw_curves([Curve("random, algorithm=supervised", [10], [50.0]), Curve("assl", [10], [60.0])])
    assert written(figure) == ["50.0", "60.0"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["random, algorithm=supervised", "assl"]


def test_a_line_that_ends_in_an_unknown_value_has_no_name_there() -> None:
    figure = draw_curves([Curve("ASSL", [10, 20], [50.0, nan]), Curve("random", [10, 20], [40.0, 50.0])])
    assert written(figure) == ["random  50.0"]


def test_dollar_signs_of_a_name_are_no_formula() -> None:
    figure = draw_curves([Curve("$\\frac$", [10], [50.0])], title="a$b$c")
    assert len(svg(figure).content) > 1000  # which would raise on half a formula


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one complete round"):
        plot_curve([], tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())


def test_drawing_touches_no_global_state(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plot_curve(make_run([0.5, 0.6]), tmp_path / "curve.png")
    svg(draw_curves([Curve("ASSL", [10], [50.0])]))
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
