"""The section on confidence: how often predictions of a given confidence are right."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from assl_lightning.base.proportions import wilson_interval
from assl_lightning.base.words import per_cent
from assl_lightning.report.analysis.evaluations import Calibration, LastTest, calibration
from assl_lightning.report.drawing import COLOURS, INK, new_figure, quieten, svg
from assl_lightning.report.views import Block, Illustration, Paragraph


def reliability_blocks(tested: LastTest) -> tuple[Block, ...]:
    """Show the diagram and the expected calibration error; nothing where no confidence is a number."""
    found = calibration(tested.evaluation)
    if found is None:
        return ()
    total, right = int(found.count.sum()), int(found.right.sum())
    mean = float(np.nansum(found.count * found.confidence) / total)
    side = "more" if mean > right / total else "less"
    sentence = (
        f"On average the predictions are {side} confident than they are right: mean confidence {per_cent(mean)} %, "
        f"accuracy {per_cent(right / total)} %. The expected calibration error is {per_cent(found.error)} points: the "
        f"mean over the test images of the "
        f"distance between confidence and accuracy in their bin, of {len(found.count)} bins. Confidence is the largest "
        f"probability, without the temperature that the predict command fits."
    )
    caption = (
        "Each point: the images of a bin, their mean confidence and accuracy with its 95 % interval. On the dashed "
        "line both are equal; below it the predictions are too confident. Bars: how many images each bin has."
    )
    alternative = f"Reliability diagram. {_in_words(found)}"
    return Paragraph(sentence), Illustration(svg(draw_reliability(found)), alternative, caption)


def _in_words(found: Calibration) -> str:
    bins = [
        f"confidence {per_cent(confidence)} %: accuracy {per_cent(right / count)} % of {count}"
        for count, right, confidence in zip(*_columns(found), strict=True)
        if count
    ]
    return "; ".join(bins)


def _columns(found: Calibration) -> tuple[list[int], list[int], list[float]]:
    return found.count.tolist(), found.right.tolist(), found.confidence.tolist()


def draw_reliability(found: Calibration) -> Figure:
    """Draw accuracy against confidence above, and the number of images in each bin below."""
    figure = new_figure(5.2, 4.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    above.plot([0, 100], [0, 100], "--", color=INK, linewidth=1)
    for count, right, confidence in zip(*_columns(found), strict=True):
        if not count:
            continue
        low, high = wilson_interval(right, count)
        x = 100 * confidence
        above.plot([x, x], [100 * low, 100 * high], color=COLOURS[0], linewidth=1.4)
        above.plot(x, 100 * right / count, "o", color=COLOURS[0], markersize=5)
    above.set_ylim(0, 102)
    above.set_ylabel("accuracy (%)", color=INK)
    edges = np.linspace(0, 100, len(found.count) + 1)
    below.stairs(found.count, edges, fill=True, color=COLOURS[5])
    below.set_xlim(0, 101)
    below.set_xlabel("confidence (%)", color=INK)
    below.set_ylabel("images", color=INK)
    for axes in (above, below):
        quieten(axes)
    return figure
