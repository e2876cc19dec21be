"""Accuracy against labels, or against steps: of one run, and of several methods over their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, isnan
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.drawing import INK, LABEL_SIZE, Style, new_figure, plain, quieten, save, style_of, wrapped

LONGEST_END = 24  # characters of a name at a line's end; longer names go into a legend
MOST_MARKERS = 20  # markers of a line
MOST_TOGETHER = 7  # lines and bands that can be distinguished in one plot
_PANELS_A_ROW = 4

_FIRST = style_of(0)


@dataclass(frozen=True)
class Curve:
    """A line: a method's mean over its seeds, or one run."""

    name: str
    x: Sequence[int]
    mean: Sequence[float]  # per cent
    deviation: Sequence[float] = ()  # per cent; empty for one seed
    style: Style = _FIRST
    width: float = 1.8


def plot_curve(records: Sequence[RoundRecord], path: Path, title: str | None = None) -> None:
    """Draw one run: test accuracy of the averaged weights (solid) and of the raw weights (thin) after each round.

    Args:
        records: the rounds, at least one.
        path: the file to write, such as curve.png; its suffix is the format, its directory is made.
        title: the title of the figure.
    """
    if not records:
        raise ValueError("there is no round to draw; plot_curve needs the records of at least one complete round")
    labels = [record.labels for record in records]
    raw = [100 * record.test_accuracy_raw for record in records]
    ema = [100 * record.test_accuracy_ema for record in records]
    curves = [
        Curve("raw weights", labels, raw, style=Style(INK, "-", "o"), width=0.9),
        Curve("EMA weights", labels, ema),
    ]
    if raw == ema:  # the weights were not averaged
        curves = [Curve("accuracy", labels, raw)]
    save(draw_curves(curves, title=title), path)


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str | None = None,
    x_label: str = "labelled samples",
    y_label: str = "test accuracy (%)",
    ticks_at_points: bool = True,
) -> Figure:
    """Draw lines with a band of ± `deviation` each, and the name and the last value at each line's end.

    `ticks_at_points` puts the ticks at the points of the curves, such as rounds, instead of at round numbers.
    """
    has_legend = any(len(curve.name) > LONGEST_END for curve in curves)
    figure = new_figure(5.6, 3.7 + 0.2 * len(curves) * has_legend)
    axes = figure.subplots()
    quieten(axes)
    if title is not None:
        axes.set_title(plain(title), loc="left", fontsize=11, color="black")
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    if ticks_at_points:
        points = sorted({x for curve in curves for x in curve.x})
        axes.set_xticks(points[:: ceil(len(points) / 8)])  # all points, or every second, …
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for curve in curves:
        draw_line(axes, curve)
    _name_lines(figure, axes, curves, has_legend)
    return figure


def draw_panels(
    curves: Sequence[Curve],
    reference: Curve | None,
    *,
    title: str | None,
    y_label: str,
) -> Figure:
    """Draw a small plot for each line with its band and last value, and the dashed `reference`, on common axes."""
    rows = ceil(len(curves) / _PANELS_A_ROW)
    figure = new_figure(8.0, 0.8 + 1.6 * rows)
    panels = figure.subplots(rows, _PANELS_A_ROW, sharex=True, sharey=True, squeeze=False).flatten()
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    for axes, curve in zip(panels, curves, strict=False):
        quieten(axes, label_size=0.8 * LABEL_SIZE)
        heading = "\n".join(wrapped([f"{curve.name}  {curve.mean[-1]:.1f}"], 24))
        axes.set_title(heading, loc="left", fontsize=0.8 * LABEL_SIZE, color="black")
        if reference is not None:
            axes.plot(reference.x, reference.mean, "--", color=INK, linewidth=1.0)
        draw_line(axes, replace(curve, style=_FIRST, width=1.4))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if title is not None:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11, color="black")
    figure.supxlabel("labelled samples", color=INK, fontsize=LABEL_SIZE)
    figure.supylabel(y_label, color=INK, fontsize=LABEL_SIZE)
    return figure


def draw_line(axes: Axes, curve: Curve) -> None:
    """Draw a line with its markers, and its band of ± `deviation`."""
    axes.plot(
        curve.x,
        curve.mean,
        curve.style.line,
        color=curve.style.colour,
        linewidth=curve.width,
        marker=curve.style.marker,
        markersize=2.8 * curve.width,
        markevery=ceil(len(curve.x) / MOST_MARKERS),
        label=plain(curve.name),
    )
    if curve.deviation:
        lower = [mean - deviation for mean, deviation in zip(curve.mean, curve.deviation, strict=True)]
        upper = [mean + deviation for mean, deviation in zip(curve.mean, curve.deviation, strict=True)]
        axes.fill_between(curve.x, lower, upper, color=curve.style.colour, alpha=0.13, linewidth=0)


def _name_lines(figure: Figure, axes: Axes, curves: Sequence[Curve], has_legend: bool) -> None:
    known = [curve for curve in curves if not isnan(curve.mean[-1])]
    if has_legend:
        figure.legend(loc="outside lower left", frameon=False, fontsize=LABEL_SIZE, labelcolor=INK, handlelength=3.5)
        _label_ends(figure, axes, known, [f"{curve.mean[-1]:.1f}" for curve in known])
    else:
        _label_ends(figure, axes, known, [f"{curve.name}  {curve.mean[-1]:.1f}" for curve in known])


def _label_ends(figure: Figure, axes: Axes, curves: Sequence[Curve], texts: Sequence[str]) -> None:
    """Write each text beside the end of its line, moved up or down just enough to keep the texts apart."""
    figure.draw_without_rendering()  # decides the height of the axes
    low, high = axes.get_ylim()
    points_per_unit = axes.get_position().height * figure.get_figheight() * 72 / (high - low)
    heights = spread_apart([curve.mean[-1] * points_per_unit for curve in curves], 1.25 * LABEL_SIZE)
    for curve, text, height in zip(curves, texts, heights, strict=True):
        axes.annotate(
            plain(text),
            xy=(1, curve.mean[-1]),
            xycoords=("axes fraction", "data"),
            xytext=(6, height - curve.mean[-1] * points_per_unit),
            textcoords="offset points",
            va="center",
            fontsize=LABEL_SIZE,
            color=curve.style.colour,
            annotation_clip=False,
        )


def spread_apart(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions by as little as possible (least squares) until they are at least `gap` apart, in their order.

    This is isotonic regression (pool adjacent violators) of position − rank · gap.

    >>> spread_apart([10.0, 0.0, 10.0], gap=2.0)
    [9.0, 0.0, 11.0]
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    blocks: list[tuple[float, int]] = []  # (mean, count), ascending
    for rank, index in enumerate(order):
        mean, count = positions[index] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, number = blocks.pop()
            mean, count = (before * number + mean * count) / (number + count), number + count
        blocks.append((mean, count))
    levels = [mean for mean, count in blocks for _ in range(count)]
    spread = [0.0] * len(positions)
    for rank, (index, level) in enumerate(zip(order, levels, strict=True)):
        spread[index] = level + rank * gap
    return spread
