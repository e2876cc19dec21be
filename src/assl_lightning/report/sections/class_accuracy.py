"""The section on the classes of the test: how often each is recognised, with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.base.words import UNKNOWN, per_cent
from assl_lightning.report.analysis.evaluations import LastTest
from assl_lightning.report.drawing import COLOURS, INK, new_figure, quieten, rows_height, svg, wrapped
from assl_lightning.report.sections.tested import describe_test
from assl_lightning.report.views import Block, Fold, Illustration, Paragraph, Table

MOST_BARS = 30
_LOWEST = 15  # classes of a table, where there are more than bars


def class_accuracy_blocks(tested: LastTest) -> tuple[Block, ...]:
    """Show a bar for each class, and a table; of many classes a table of the lowest, and one of all in a fold."""
    matrix = tested.confusion
    right, count = np.diag(matrix), matrix.sum(1)
    sentence = Paragraph(
        f"{describe_test(tested)} How often each class is recognised, with the 95 % interval (Wilson's) that so many "
        f"test images allow: with few images it is wide. Precision: how often the prediction of a class is right."
    )
    rows = _rows(tested.names, matrix)
    whole = (("all classes", *_cells(int(right.sum()), int(count.sum())), UNKNOWN),)
    header = ("class", "test images", "recognised", "accuracy (%)", "95 % interval", "precision (%)")
    if len(rows) > MOST_BARS:
        tested_classes = [number for number in range(len(rows)) if count[number]]
        lowest = sorted(tested_classes, key=lambda number: (right[number] / count[number], number))[:_LOWEST]
        caption = f"The {len(lowest)} of {len(rows)} classes with the lowest accuracy"
        every = Table("Accuracy by class", header, (*rows, *whole), has_total=True)
        low = Table(caption, header, (*(rows[number] for number in lowest), *whole), has_total=True)
        return sentence, low, Fold(f"All {len(rows)} classes", (every,))
    figure = Illustration(
        svg(draw_classes(tested.names, right, count)),
        "Accuracy of each class with its interval; the table has the numbers.",
        "Bars: accuracy of the class; lines: its 95 % interval; dashed: accuracy over all test images.",
    )
    return sentence, figure, Table("Accuracy by class", header, (*rows, *whole), has_total=True)


def _rows(names: Sequence[str], matrix: NDArray[np.int64]) -> list[tuple[str, ...]]:
    right, count, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    return [
        (
            name,
            *_cells(int(right[number]), int(count[number])),
            per_cent(right[number] / predicted[number] if predicted[number] else None),
        )
        for number, name in enumerate(names)
    ]


def _cells(right: int, count: int) -> tuple[str, ...]:
    if not count:
        return ("0", "0", UNKNOWN, UNKNOWN)
    low, high = wilson_interval(right, count)
    return (f"{count:,}", f"{right:,}", per_cent(right / count), f"{per_cent(low)} to {per_cent(high)}")


def draw_classes(names: Sequence[str], right: NDArray[np.int64], count: NDArray[np.int64]) -> Figure:
    """Draw a bar for each class, its accuracy `right` (C,) of `count` (C,), with the interval; 0 of 0 has no bar."""
    figure = new_figure(5.2, 0.7 + rows_height(names, 0.32))
    axes = figure.subplots()
    for row, (hits, total) in enumerate(zip(right.tolist(), count.tolist(), strict=True)):
        if not total:
            axes.text(1, row, "no test image", va="center", fontsize=8, color=INK)
            continue
        low, high = wilson_interval(hits, total)
        axes.barh(row, 100 * hits / total, height=0.62, color=COLOURS[5])
        axes.plot([100 * low, 100 * high], [row, row], color=INK, linewidth=1.4)
        axes.plot([100 * low, 100 * high], [row, row], "|", color=INK, markersize=6, markeredgewidth=1.4)
    axes.axvline(100 * right.sum() / max(count.sum(), 1), color=INK, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(names)), wrapped(names))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy (%)", color=INK)
    quieten(axes, frame=("left",), grid="x")
    return figure
