"""The regimes as figures: accuracy against labels in each, and the labels that each method needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, isnan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from assl_lightning.report.analysis.labels_needed import LabelsNeeded
from assl_lightning.report.curve import MOST_TOGETHER, draw_line
from assl_lightning.report.drawing import COLOURS, FAINT, INK, LABEL_SIZE, Style, new_figure, plain, quieten, style_of
from assl_lightning.report.labels_needed.regimes import Regime
from assl_lightning.report.labels_needed.tables import NEVER
from assl_lightning.report.sections.accuracy import curve_of

_PANELS_A_ROW = 3
_WIDTH = 8.0  # inches
_LARGEST_RATIO = 2.0  # longer bars are cut
HATCHES = ("", "////", "....", "xxxx")
"""Of bars that have one colour."""


def shown_methods(regimes: Sequence[Regime], first: Sequence[str]) -> tuple[str, ...]:
    """Return all methods of the regimes, in the order of the legend: those named `first`, then others in theirs."""
    names = dict.fromkeys(name for regime in regimes for name in regime.results)
    return tuple(dict.fromkeys((*(name for name in first if name in names), *names)))


def draw_regimes(regimes: Sequence[Regime], methods: Sequence[str], title: str | None = None) -> Figure:
    """Draw a panel for each regime with the mean accuracy of the methods against labels.

    Up to `MOST_TOGETHER` methods have a band of ± one standard deviation; the bands of more would hide each other.
    """
    has_bands = len(methods) <= MOST_TOGETHER
    columns = min(len(regimes), _PANELS_A_ROW)
    rows = ceil(len(regimes) / columns)
    figure = new_figure(_WIDTH, 0.7 + 2.3 * rows + 0.18 * len(methods))
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(regimes) :]:
        axes.set_axis_off()
    lines = {}
    for number, (axes, regime) in enumerate(zip(panels, regimes, strict=False)):
        quieten(axes, label_size=0.85 * LABEL_SIZE)
        if number + columns >= len(regimes):
            axes.set_xlabel("labelled samples", color=INK, fontsize=LABEL_SIZE)
        measure = ", balanced" if regime.which == "balanced" else ""
        axes.set_title(plain(f"{regime.name}{measure}"), loc="left", fontsize=LABEL_SIZE, color="black")
        axes.set_xticks(regime.setting.labels)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for name in methods:
            if name in regime.setting.methods:
                _draw_method(axes, regime, name, style_of(methods.index(name)), has_band=has_bands)
        lines.update({line.get_label(): line for line in axes.get_lines()})
    if title is not None:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11, color="black")
    measured = "mean ± s.d." if has_bands else "mean over seeds"
    figure.supylabel(f"test accuracy (%), {measured}", color=INK, fontsize=LABEL_SIZE)
    _add_legend(figure, [lines[plain(name)] for name in methods if plain(name) in lines])
    return figure


def _draw_method(axes: Axes, regime: Regime, name: str, style: Style, *, has_band: bool) -> None:
    curve = curve_of(regime.setting.methods[name], regime.setting.labels, regime.which)
    draw_line(axes, replace(curve, style=style, width=1.4, deviation=curve.deviation if has_band else ()))


def _add_legend(figure: Figure, handles: Sequence[object]) -> None:
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower left",
            frameon=False,
            fontsize=LABEL_SIZE,
            labelcolor=INK,
            handlelength=3.0,
            ncols=1 if len(handles) < 3 else 2,
        )


def draw_needed(regimes: Sequence[Regime], methods: Sequence[str], title: str | None = None) -> Figure:
    """Draw a bar for each method and regime, the labels needed as a ratio, with its interval.

    The baseline, whose ratio is 1, has no bar. A bar to the edge with the word "never" stands for a target that the
    mean curve does not reach. Of methods with one colour, the second is hatched, the third in another way, and so on.
    """
    shown = [(regime, [name for name in methods if _needed(regime, name) is not None]) for regime in regimes]
    shown = [(regime, names) for regime, names in shown if names]
    bars = sum(len(names) + 1 for _, names in shown)
    figure = new_figure(_WIDTH, 1.0 + 0.17 * bars + 0.1 * len(methods))
    axes = figure.subplots()
    handles: dict[str, BarContainer] = {}
    ticks: dict[float, str] = {}
    place = 0
    for regime, names in shown:
        ticks[place + (len(names) - 1) / 2] = plain(regime.name)
        for name in names:
            needed = _needed(regime, name)
            assert needed is not None
            handles[name] = _draw_bar(axes, place, needed, methods.index(name))
            place += 1
        place += 1
    axes.axvline(1, color=INK, linewidth=0.9)
    axes.axvline(0.5, color=FAINT, linewidth=0.9, linestyle="--")
    axes.set_xlim(0, _edge([needed for regime, names in shown for name in names if (needed := _needed(regime, name))]))
    axes.set_ylim(place - 0.4, -0.9)
    axes.set_yticks([*ticks], [*ticks.values()])
    quieten(axes, frame=(), grid="x")
    axes.set_xlabel(
        "labels needed, as a ratio to the baseline (1: as many; dashed: half)", fontsize=LABEL_SIZE, color=INK
    )
    if title is not None:
        axes.set_title(plain(title), loc="left", fontsize=11, color="black")
    for name in methods:
        if name in handles:
            handles[name].set_label(plain(name))
    _add_legend(figure, [handles[name] for name in methods if name in handles])
    return figure


def _needed(regime: Regime, name: str) -> LabelsNeeded | None:
    """Return the labels that a method needs; None if it has no bar."""
    return regime.results[name].needed if name in regime.results and name != regime.baseline else None


def _edge(needed: Sequence[LabelsNeeded]) -> float:
    """Return the right edge of the axis: all bars and intervals up to the largest ratio that is drawn."""
    ends = [end for bar in needed for end in (bar.ratio, bar.high) if not isnan(end)]
    return min(1.05 * max([1.1, *ends]), _LARGEST_RATIO)


def _draw_bar(axes: Axes, place: int, needed: LabelsNeeded, number: int) -> BarContainer:
    """Draw the bar of the method with this `number` in the legend."""
    ratio, low, high = np.minimum([needed.ratio, needed.low, needed.high], _LARGEST_RATIO).tolist()
    colour, hatch = style_of(number).colour, HATCHES[number // len(COLOURS) % len(HATCHES)]
    bars = axes.barh(place, ratio, height=0.8, color=colour, alpha=0.75, hatch=hatch, edgecolor="white", linewidth=0)
    if not isnan(low):
        axes.plot([low, high], [place, place], color=INK, linewidth=1.1)
    if needed.ratio > _LARGEST_RATIO:
        text = NEVER if np.isinf(needed.ratio) else f"{needed.ratio:.1f}"
        axes.text(_LARGEST_RATIO - 0.02, place, text, ha="right", va="center", fontsize=7, color="white")
    return bars
