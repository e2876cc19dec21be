"""The section on the queried classes: how evenly the queries of a method are distributed over the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from assl_lightning.base.words import per_cent
from assl_lightning.report.analysis.classes import names_of, present_labels
from assl_lightning.report.analysis.runs import Method, Run, Setting
from assl_lightning.report.drawing import (
    INK,
    colours_of,
    ink_on,
    new_figure,
    plain,
    quieten,
    rows_height,
    svg,
    wrapped,
)
from assl_lightning.report.views import Block, Illustration, Paragraph, Table

MOST_CLASSES = 20  # parts of a bar
_LETTER = 0.016  # width of a letter, as a share of the bar's length
_LEGEND_WIDTH = 72  # letters in a row of the legend

Counts = NDArray[np.int64]


def class_counts(run: Run) -> Counts | None:
    """Return (C,) the number of answered queries of each class over all rounds; None if no label is recorded."""
    labels = [label for record in run.records for label in present_labels(run, record) if label >= 0]
    if not labels:
        return None
    return np.bincount(labels, minlength=len(names_of(run)))


def evenness(counts: Counts) -> float:
    """Return the entropy of the shares (C,) over log C, in [0, 1]: 1 for equal shares, 0 for a single class.

    >>> evenness(np.array([5, 5])), evenness(np.array([7, 0]))
    (1.0, 0.0)
    """
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum() / log(len(counts))) + 0.0 if len(counts) > 1 else 1.0


def class_balance_blocks(setting: Setting) -> tuple[Block, ...]:
    """Show a bar for each method, if the classes are few, and a table; nothing if no labels are recorded."""
    known = {name: counts for name, method in setting.methods.items() if (counts := _known(method))}
    if not known:
        return ()
    sentence = (
        "Shares of the classes in the answers to all queries, without the initial labels. Evenness is the entropy of "
        "the shares, divided by that of equal shares: 1 is an equal number of each class. Uniform draws come near the "
        "shares of the pool."
    )
    rows = tuple(_row(name, counts) for name, counts in known.items())
    header = ("method", "seeds", "queries per seed", "evenness", "rarest class (%)", "commonest class (%)")
    table = Table("Classes of the queries, means over seeds", header, rows)
    if len(next(iter(known.values()))[0]) > MOST_CLASSES:
        return Paragraph(sentence), table
    shares = {name: np.mean([of_run / of_run.sum() for of_run in counts], axis=0) for name, counts in known.items()}
    names = names_of(next(setting.runs))
    drawn = "; ".join(f"{name}: {_in_words(names, values)}" for name, values in shares.items())
    figure = Illustration(
        svg(draw_shares(shares, names)),
        f"Share of each class in per cent. {drawn}",
        f"A bar for each method; its parts are the shares of the classes, in this order: {', '.join(names)}. "
        f"{'Means over seeds.' if any(len(counts) > 1 for counts in known.values()) else ''}".strip(),
    )
    return Paragraph(sentence), figure, table


def _in_words(names: Sequence[str], shares: NDArray[np.float64]) -> str:
    """Write the shares (C,) of the classes: "ok 60 %, dent 40 %"."""
    return ", ".join(f"{name} {per_cent(share, digits=0)} %" for name, share in zip(names, shares, strict=False))


def _known(method: Method) -> list[Counts]:
    return [counts for _, run in sorted(method.runs.items()) if (counts := class_counts(run)) is not None]


def _row(name: str, counts: list[Counts]) -> tuple[str, ...]:
    shares = [of_run / of_run.sum() for of_run in counts]
    return (
        name,
        f"{len(counts)}",
        f"{fmean(int(of_run.sum()) for of_run in counts):,.0f}",
        f"{fmean(map(evenness, counts)):.3f}",
        per_cent(fmean(float(of_run.min()) for of_run in shares)),
        per_cent(fmean(float(of_run.max()) for of_run in shares)),
    )


def draw_shares(shares: Mapping[str, NDArray[np.float64]], names: Sequence[str] = ()) -> Figure:
    """Draw method → shares (C,), which sum to 1, with the names or numbers of the classes that fit, and a legend."""
    count = max(map(len, shares.values()))
    legend = [plain(name) for name in names] or [str(number) for number in range(count)]
    colours = colours_of(count)
    columns = min(count, max(1, int(_LEGEND_WIDTH / (4 + max(map(len, legend))))))
    figure = new_figure(5.2, 0.6 + rows_height(shares, 0.34) + 0.19 * -(-count // columns))
    axes = figure.subplots()
    for row, values in enumerate(shares.values()):
        left = 0.0
        for number, share in enumerate(values.tolist()):
            axes.barh(row, share, left=left, height=0.8, color=colours[number], edgecolor="white", linewidth=1)
            name = legend[number]
            if share > max(0.025, _LETTER * len(name)):
                ink = ink_on(colours[number])
                axes.text(left + share / 2, row, name, ha="center", va="center", fontsize=8, color=ink)
            left += share
    axes.set_yticks(range(len(shares)), wrapped(shares))
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    quieten(axes, frame=(), grid=None)
    keys = [Patch(color=colour, label=name) for colour, name in zip(colours, legend, strict=True)]
    figure.legend(
        handles=keys,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
    )
    return figure
