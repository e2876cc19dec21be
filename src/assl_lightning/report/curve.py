"""Accuracy against labels: of one run, and of several methods over their seeds.

The one module that knows Matplotlib. It draws on a figure of its own: no pyplot, no backend, no global state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from assl_lightning.atomic import open_atomic
from assl_lightning.report.table import RoundResult

# Okabe and Ito 2008: told apart without red-green vision; their yellow is left out, it is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":")  # once the colours are used up
INK = "#444444"
LABEL_SIZE = 9.0  # points


@dataclass(frozen=True)
class _Line:
    name: str
    labels: list[int]
    mean: list[float]  # per cent
    deviation: list[float]  # per cent; empty for one seed
    colour: str
    style: str = "-"
    width: float = 2.0


def plot_curve(records: Sequence[RoundResult], path: Path, title: str | None = None) -> None:
    """Draw one run: test accuracy of the averaged weights (solid) and of the raw weights (thin) after each round.

    Args:
        records: the rounds, at least one.
        path: of the figure, such as curve.png; its suffix says the format, its directory is made.
        title: above the figure.
    """
    if not records:
        raise ValueError("there is no round to draw; plot_curve needs the records of at least one complete round")
    labels = [record.labels for record in records]
    raw = [100 * record.test_accuracy_raw for record in records]
    ema = [100 * record.test_accuracy_ema for record in records]
    figure, axes = _new_figure(title, labels)
    lines = [_Line("raw weights", labels, raw, [], INK, width=0.9), _Line("EMA weights", labels, ema, [], COLOURS[0])]
    if raw == ema:  # there is no average
        lines = [_Line("accuracy", labels, raw, [], COLOURS[0])]
    _draw(figure, axes, lines)
    _save(figure, path)


def plot_comparison(
    curves: Mapping[str, Sequence[Sequence[RoundResult]]], path: Path, title: str | None = None
) -> None:
    """Draw several methods: mean test accuracy of the averaged weights over seeds, with a band of ± one s.d.

    Args:
        curves: method → seeds → rounds. The seeds of one method must have trained on the same numbers of labels. The
            standard deviation is the sample's (n − 1); one seed has no band.
        path: of the figure; its suffix says the format, its directory is made.
        title: above the figure.
    """
    if not curves:
        raise ValueError("there is no method to draw; plot_comparison needs at least one")
    lines = [_summarise(name, runs, number) for number, (name, runs) in enumerate(curves.items())]
    figure, axes = _new_figure(title, [count for line in lines for count in line.labels])
    seeds = sorted({len(runs) for runs in curves.values()})
    if seeds != [1]:
        counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        axes.set_ylabel(f"{axes.get_ylabel()}, mean ± s.d. of {counts} seeds")
    _draw(figure, axes, lines)
    _save(figure, path)


def _summarise(name: str, runs: Sequence[Sequence[RoundResult]], number: int) -> _Line:
    counts = [[record.labels for record in run] for run in runs]
    if not counts or not counts[0]:
        raise ValueError(f"{name} has no round to draw; give it at least one seed with one complete round")
    for seed, other in enumerate(counts):
        if other != counts[0]:
            raise ValueError(
                f"{name}: its seeds must have trained on the same numbers of labels to be averaged, but seed {seed} "
                f"of the list has {other} and seed 0 has {counts[0]}; draw complete runs of one configuration"
            )
    rounds = [[100 * record.test_accuracy_ema for record in seeds] for seeds in zip(*runs, strict=True)]
    return _Line(
        name,
        counts[0],
        [fmean(values) for values in rounds],
        [stdev(values) for values in rounds] if len(runs) > 1 else [],
        COLOURS[number % len(COLOURS)],
        LINES[number // len(COLOURS) % len(LINES)],
    )


def _new_figure(title: str | None, labels: Sequence[int]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if title is not None:
        axes.set_title(title, loc="left", fontsize=11, color="black")
    axes.set_xlabel("labelled samples", color=INK)
    axes.set_ylabel("test accuracy (%)", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")
    axes.tick_params(colors=INK, labelsize=LABEL_SIZE, length=0)
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    counts = sorted(set(labels))
    axes.set_xticks(counts[:: ceil(len(counts) / 8)])  # the rounds themselves, or every second, …
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure, axes


def _draw(figure: Figure, axes: Axes, lines: Sequence[_Line]) -> None:
    """The lines, their bands, and each name with the last value at the line's end."""
    for line in lines:
        marker = "o" if len(line.labels) <= 20 else None
        axes.plot(
            line.labels,
            line.mean,
            line.style,
            color=line.colour,
            linewidth=line.width,
            marker=marker,
            markersize=2 * line.width,
        )
        if line.deviation:
            lower = [mean - deviation for mean, deviation in zip(line.mean, line.deviation, strict=True)]
            upper = [mean + deviation for mean, deviation in zip(line.mean, line.deviation, strict=True)]
            axes.fill_between(line.labels, lower, upper, color=line.colour, alpha=0.13, linewidth=0)
    _label_ends(figure, axes, lines)


def _label_ends(figure: Figure, axes: Axes, lines: Sequence[_Line]) -> None:
    """Write each line's name beside its end, moved up or down as little as keeps the names apart."""
    known = [line for line in lines if line.mean[-1] == line.mean[-1]]
    figure.draw_without_rendering()  # decides the height of the axes
    low, high = axes.get_ylim()
    points_per_unit = axes.get_position().height * figure.get_figheight() * 72 / (high - low)
    places = spread_apart([line.mean[-1] * points_per_unit for line in known], 1.25 * LABEL_SIZE)
    for line, place in zip(known, places, strict=True):
        axes.annotate(
            f"{line.name}  {line.mean[-1]:.1f}",
            xy=(1, line.mean[-1]),
            xycoords=("axes fraction", "data"),
            xytext=(6, place - line.mean[-1] * points_per_unit),
            textcoords="offset points",
            va="center",
            fontsize=LABEL_SIZE,
            color=line.colour,
            annotation_clip=False,
        )


def spread_apart(places: Sequence[float], gap: float) -> list[float]:
    """The places, moved as little as possible (least squares) so that in their order they are at least `gap` apart.

    Pool-adjacent-violators on places minus their rank's share of the gaps.

    >>> spread_apart([10.0, 0.0, 10.0], gap=2.0)
    [9.0, 0.0, 11.0]
    """
    order = sorted(range(len(places)), key=lambda position: places[position])
    blocks: list[tuple[float, int]] = []  # (mean, count), ascending
    for rank, position in enumerate(order):
        mean, count = places[position] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, number = blocks.pop()
            mean, count = (before * number + mean * count) / (number + count), number + count
        blocks.append((mean, count))
    levels = [mean for mean, count in blocks for _ in range(count)]
    spread = [0.0] * len(places)
    for rank, (position, level) in enumerate(zip(order, levels, strict=True)):
        spread[position] = level + rank * gap
    return spread


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png")
