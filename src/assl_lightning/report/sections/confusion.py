"""The section on confused classes: the whole matrix of few classes, the commonest pairs of many."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assl_lightning.base.words import counted, per_cent
from assl_lightning.report.analysis.evaluations import Confusion, LastTest, confusions
from assl_lightning.report.drawing import INK, new_figure, plain, quieten, svg
from assl_lightning.report.views import Block, Illustration, Paragraph, Table

MOST_CLASSES = 30
_MOST_PAIRS = 20  # rows of the table
_NAMED = 5  # pairs in the text alternative
_ROOMY = 6  # classes whose matrix can be read on a narrow screen
_DARK = 0.55  # share from which the text on it is white


def confusion_blocks(tested: LastTest) -> tuple[Block, ...]:
    """Show the matrix of at most 30 classes, or a table of the most confused pairs."""
    matrix = tested.confusion
    pairs = confusions(matrix)
    if len(tested.names) > MOST_CLASSES:
        if not pairs:
            return (Paragraph("No test image is taken for another class."),)
        rows = tuple(_row(tested.names, pair) for pair in pairs[:_MOST_PAIRS])
        caption = f"The most confused of {counted(len(pairs), 'pair')} of classes with an error"
        return (Table(caption, ("class", "taken for", "test images", "of its images (%)"), rows),)
    drawn = svg(draw_confusion(matrix, tested.names))
    caption = (
        "Rows: the class of the test images; columns: the predicted class. Numbers are images; the darker, the larger "
        "the share of the row."
    )
    alternative = f"Confusion matrix. {_in_words(tested.names, pairs)}"
    return (Illustration(drawn, alternative, caption, is_dense=len(tested.names) > _ROOMY),)


def _row(names: Sequence[str], pair: Confusion) -> tuple[str, ...]:
    return names[pair.label], names[pair.predicted], f"{pair.count:,}", per_cent(pair.share)


def _in_words(names: Sequence[str], pairs: Sequence[Confusion]) -> str:
    if not pairs:
        return "No image is taken for another class."
    named = "; ".join(f"{names[pair.label]} as {names[pair.predicted]}: {pair.count:,}" for pair in pairs[:_NAMED])
    return f"Most confused: {named}."


def draw_confusion(matrix: NDArray[np.int64], names: Sequence[str]) -> Figure:
    """Draw (C, C) numbers of images by class (row) and predicted class (column), shaded by the share of the row."""
    classes = len(names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    labels = [plain(fill(name, 22)) for name in names]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    cell = min(0.62, max(0.24, 5.0 / classes))
    size = max(cell * classes, 1.6)
    figure = new_figure(max(5.2, size + 0.9 + 0.07 * longest), size + 0.6 + 0.07 * (longest if longest > 4 else 3))
    axes = figure.subplots()
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.6)
    font = 8.5 if classes <= 12 else 6
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if shares[row, column] > _DARK else "black"
        text = f"{matrix[row, column]:,}"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=font, color=colour)
    places = np.arange(classes) + 0.5
    is_long = longest > 4
    axes.set_xticks(places, labels, rotation=45 if is_long else 0, ha="right" if is_long else "center")
    axes.set_yticks(places, labels)
    axes.set_xlim(0, classes)
    axes.set_ylim(classes, 0)
    axes.set_aspect("equal", anchor="W")
    axes.set_xlabel("predicted class", color=INK)
    axes.set_ylabel("class", color=INK)
    quieten(axes, frame=(), grid=None, label_size=8 if classes <= 20 else 6.5)
    return figure
