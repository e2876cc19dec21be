"""The figures of temporal instability: Lim et al. 2023, Fig. 3 and 4."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from assl_lightning.report.drawing import COLOURS, FAINT, INK, LABEL_SIZE, new_figure, quieten, save

BINS = 50
GREEN = COLOURS[2]  # the paper's bars

Numbers = NDArray[np.floating[Any]]


def plot_uncertainty_histogram(uncertainties: Mapping[int, Numbers], path: Path) -> None:
    """Draw the distribution of uncertainty over the pool at some steps, usually two, with logarithmic counts (Fig. 3a).

    Args:
        uncertainties: optimizer step → (n,) pseudo-EL2N in [0, 1).
        path: the file to write; its suffix is the format, its directory is made.
    """
    figure, axes = _new_axes("uncertainty u", "samples (logarithmic)")
    edges = np.linspace(0, 1, BINS + 1)
    for number, (step, values) in enumerate(uncertainties.items()):
        counts, _ = np.histogram(values, edges)
        colour = COLOURS[number % len(COLOURS)]
        axes.stairs(counts, edges, color=colour, alpha=0.25, fill=True)
        axes.stairs(counts, edges, color=colour, linewidth=1.4, label=f"step {step:,}")
    _count_logarithmically(axes)
    axes.set_xlim(0, 1)
    _legend(axes)
    save(figure, path)


def plot_rank_correlations(steps: NDArray[np.int64], everything: Numbers, unconfident: Numbers, path: Path) -> None:
    """Draw Spearman's ρ of uncertainty with the previous snapshot, over training (Fig. 3b).

    Args:
        steps: (T − 1,) optimizer steps of the later snapshot of each pair.
        everything: (T − 1,) in [−1, 1], over all samples.
        unconfident: (T − 1,) over samples that are unconfident in both; NaN if there are too few.
        path: the file to write.
    """
    figure, axes = _new_axes("optimizer step", "Spearman's ρ with the previous snapshot")
    axes.axhline(0, color=FAINT, linewidth=1)
    marker = "o" if len(steps) == 1 else ""  # a single point has no line
    axes.plot(steps, everything, "-", color=COLOURS[0], linewidth=1.8, marker=marker, label="all samples")
    axes.plot(steps, unconfident, "--", color=COLOURS[1], linewidth=1.4, marker=marker, label="unconfident in both")
    lowest = min((value for value in (*everything, *unconfident) if isfinite(value)), default=0)
    axes.set_ylim(min(-0.1, 1.1 * lowest), 1.05)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _legend(axes)
    save(figure, path)


def plot_uncertainty_by_instability(
    count: NDArray[np.int64], mean: Numbers, deviation: Numbers, is_reliable: NDArray[np.bool_], path: Path
) -> None:
    """Draw how many samples changed their prediction how often (bars), and their uncertainty, mean ± s.d. (Fig. 4).

    Args:
        count: (k,) samples with total instability 0 … k − 1; drawn on a logarithmic axis.
        mean: (k,) of their uncertainty; drawn with its band if it is reliable.
        deviation: (k,) standard deviation.
        is_reliable: (k,) True if there are enough samples for a mean.
        path: the file to write.
    """
    figure = new_figure(6.4, 4.8)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    value = np.arange(len(count))
    known = np.where(is_reliable, mean, np.nan)
    spread = np.where(is_reliable, deviation, np.nan)
    above.errorbar(value, known, spread, color=COLOURS[0], marker="o", markersize=3, elinewidth=0.8, capsize=2)
    above.set_ylabel("uncertainty u, mean ± s.d.", color=INK)
    below.bar(value, count, width=0.8, color=GREEN)
    _count_logarithmically(below)
    below.set_ylabel("samples (logarithmic)", color=INK)
    below.set_xlabel("total instability: changes of the predicted class", color=INK)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (above, below):
        quieten(axes)
    save(figure, path)


def _new_axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = new_figure(6.4, 4.0)
    axes = figure.subplots()
    quieten(axes)
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    return figure, axes


def _count_logarithmically(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)  # shows a count of one above the axis
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.minorticks_off()


def _legend(axes: Axes) -> None:
    """Put the legend above the axes, where it hides no line."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=LABEL_SIZE, labelcolor=INK)
