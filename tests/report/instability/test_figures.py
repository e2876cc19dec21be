from __future__ import annotations

from math import nan
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from PIL import Image

from assl_lightning.report.instability.figures import (
    plot_rank_correlations,
    plot_uncertainty_by_instability,
    plot_uncertainty_histogram,
)


def legend_of(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_histogram_counts_each_snapshots_uncertainties_on_a_logarithmic_axis(
    tmp_path: Path, figures: list[Figure]
) -> None:
    before, last = np.array([0.001, 0.001, 0.005, 0.55]), np.array([0.001, 0.95, 0.95, 0.95])
    plot_uncertainty_histogram({495_000: before, 500_000: last}, tmp_path / "report" / "histogram.png")
    (figure,) = figures
    (axes,) = figure.axes
    assert legend_of(figure) == ["step 495,000", "step 500,000"]
    outlines = [patch.get_data() for patch in axes.patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    for (counts, edges, _), values in zip(outlines, (before, last), strict=True):
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
            assert count == sum(low <= value < high for value in values)
        assert sum(counts) == 4
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert 0 < low < 1 < 3 < high
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("uncertainty u", "samples (logarithmic)")
    with Image.open(tmp_path / "report" / "histogram.png") as image:
        assert image.format == "PNG"
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["histogram.png"]


def test_correlations_are_two_lines_over_steps_with_gaps_where_they_are_unknown(
    tmp_path: Path, figures: list[Figure]
) -> None:
    steps = np.array([10, 20, 30])
    everything, unconfident = np.array([0.9, 0.5, 0.7]), np.array([nan, -0.4, 0.1])
    plot_rank_correlations(steps, everything, unconfident, tmp_path / "correlation.png")
    (axes,) = figures[0].axes
    drawn = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    np.testing.assert_array_equal(drawn["all samples"], np.stack([steps, everything], axis=1))
    np.testing.assert_array_equal(drawn["unconfident in both"], np.stack([steps, unconfident], axis=1))
    assert legend_of(figures[0]) == ["all samples", "unconfident in both"]
    low, high = axes.get_ylim()
    assert low < -0.4
    assert 1 < high < 1.2


@pytest.mark.parametrize("unconfident", [nan, 0.2])
def test_a_single_correlation_is_a_point_that_can_be_seen(
    tmp_path: Path, figures: list[Figure], unconfident: float
) -> None:
    plot_rank_correlations(np.array([20]), np.array([0.9]), np.array([unconfident]), tmp_path / "correlation.png")
    (axes,) = figures[0].axes
    assert [line.get_marker() for line in axes.lines[1:]] == ["o", "o"]
    assert axes.get_ylim()[0] == pytest.approx(-0.1)


def test_instability_has_a_bar_for_each_value_and_a_mean_where_there_are_enough_samples(
    tmp_path: Path, figures: list[Figure]
) -> None:
    count, mean, deviation = np.array([50, 20, 0, 3]), np.array([0.1, 0.3, nan, 0.6]), np.array([0.05, 0.1, nan, 0.2])
    plot_uncertainty_by_instability(count, mean, deviation, count >= 10, tmp_path / "instability.png")
    above, below = figures[0].axes
    (bars,) = (container for container in below.containers if isinstance(container, BarContainer))
    assert [bar.get_height() for bar in bars] == [50, 20, 0, 3]
    assert below.get_yscale() == "log"
    (errors,) = (container for container in above.containers if isinstance(container, ErrorbarContainer))
    line, _, (spans,) = errors.lines
    assert line is not None
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.3, nan, nan])
    ends = [np.asarray(segment)[:, 1] for segment in spans.get_segments() if len(segment)]
    np.testing.assert_allclose([end for end in ends if np.isfinite(end).all()], [[0.05, 0.15], [0.2, 0.4]])
    assert below.get_xlabel() == "total instability: changes of the predicted class"


def test_drawing_touches_no_global_state(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    plot_uncertainty_histogram({1: np.array([0.5])}, tmp_path / "histogram.png")
    assert dict(matplotlib.rcParams) == before
