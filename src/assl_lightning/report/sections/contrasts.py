"""Each method against one reference, seed by seed: in the last round, and over the whole budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assl_lightning.base.words import counted, interval, p_value, points
from assl_lightning.report.analysis.comparison import (
    ENOUGH_SEEDS,
    Interval,
    PairedTest,
    aubc,
    bootstrap,
    has_area,
    holm,
    paired_t,
    wilcoxon,
)
from assl_lightning.report.analysis.runs import Method, Setting, accuracies, shared_seeds
from assl_lightning.report.drawing import (
    FAINT,
    INK,
    LABEL_SIZE,
    new_figure,
    plain,
    quieten,
    rows_height,
    style_of,
    svg,
    wrapped,
)
from assl_lightning.report.views import Block, Illustration, Paragraph, Table

Floats = NDArray[np.float64]

LEVEL = 0.05
LAST_ROUND = "last round"
AUBC = "AUBC"
DEFAULT_REFERENCE = "random"


@dataclass(frozen=True)
class Contrast:
    """A method's accuracy minus the reference's, over the seeds that both have; in [−1, 1]."""

    method: str
    measure: str  # LAST_ROUND | AUBC
    difference: Floats  # (n,) seed by seed
    test: PairedTest
    wilcoxon: float  # p
    bootstrap: Interval
    holm: float  # the paired t's p, corrected for all methods that are compared with the reference in this measure

    @property
    def is_significant(self) -> bool:
        """Whether the two can be told apart: enough seeds, and a corrected p below 0.05."""
        return self.test.has_enough_seeds and self.holm < LEVEL


@dataclass(frozen=True)
class Contrasts:
    """All methods of a setting against its reference."""

    reference: str
    found: tuple[Contrast, ...]  # by measure, then as the methods are ordered
    unpaired: tuple[str, ...]  # methods that share no seed with the reference

    def of(self, measure: str) -> tuple[Contrast, ...]:
        """Those of one measure."""
        return tuple(contrast for contrast in self.found if contrast.measure == measure)


def reference_of(setting: Setting, against: str | None) -> str | None:
    """The method to compare with: `against`, or `random` where there is one and another method beside it.

    Raises:
        ValueError: no method of the setting has that name.
    """
    if against is not None and against not in setting.methods:
        raise ValueError(
            f"--against {against}: must be one of the methods of {setting.name}: {'; '.join(setting.methods)}"
        )
    found = against or (DEFAULT_REFERENCE if DEFAULT_REFERENCE in setting.methods else None)
    return found if len(setting.methods) > 1 else None


def contrasts(setting: Setting, reference: str) -> Contrasts:
    """Compare every other method of the setting with `reference`, each over the seeds that the two share."""
    base = setting.methods[reference]
    others = [method for name, method in setting.methods.items() if name != reference]
    paired = [method for method in others if shared_seeds(method, base)]
    measures = (LAST_ROUND, AUBC) if len(setting.labels) > 1 and has_area(setting.labels) else (LAST_ROUND,)
    found = tuple(one for measure in measures for one in _contrasts(setting.labels, paired, base, measure))
    return Contrasts(reference, found, tuple(method.name for method in others if method not in paired))


def _contrasts(labels: Sequence[int], methods: Sequence[Method], base: Method, measure: str) -> list[Contrast]:
    differences = [_difference(labels, method, base, measure) for method in methods]
    tests = [paired_t(difference) for difference in differences]
    corrected = holm([test.p_value for test in tests]).tolist()
    return [
        Contrast(method.name, measure, difference, test, wilcoxon(difference), bootstrap(difference), p)
        for method, difference, test, p in zip(methods, differences, tests, corrected, strict=True)
    ]


def _difference(labels: Sequence[int], method: Method, base: Method, measure: str) -> Floats:
    seeds = shared_seeds(method, base)
    mine, other = accuracies(method, seeds), accuracies(base, seeds)
    return mine[:, -1] - other[:, -1] if measure == LAST_ROUND else aubc(labels, mine) - aubc(labels, other)


# --- what is written and drawn ---------------------------------------------------------------------------------------


def contrast_blocks(setting: Setting, compared: Contrasts | None) -> tuple[Block, ...]:
    """A drawing and a table; a sentence where nothing is compared."""
    if compared is None:
        return (Paragraph(_why_nothing(setting)),)
    unpaired = tuple(
        Paragraph(f"{name} shares no seed with {compared.reference} and is not compared.") for name in compared.unpaired
    )
    if not compared.found:
        return unpaired
    sentence = (
        f"Points of accuracy (EMA weights) above {compared.reference}, seed by seed: under one seed both began with "
        f"the same samples and weights. AUBC is the area under the curve, the mean accuracy over the budget. p is of "
        f"the paired t test; Holm's is corrected for {counted(len(compared.of(LAST_ROUND)), 'comparison')} in each "
        f"measure, and with {ENOUGH_SEEDS} seeds or more it decides the verdict, at 5 %. Intervals are of 95 %, and "
        f"not corrected; the bootstrap's, which is too narrow for few seeds, is given from {ENOUGH_SEEDS} on."
    )
    picture = Illustration(
        svg(draw_contrasts(setting, compared)),
        f"Mean differences to {compared.reference} with their intervals; the table has the numbers.",
        f"Mean difference with its 95 % interval (Student's t); a small tick is one seed. Left of the line is worse "
        f"than {compared.reference}.",
    )
    return Paragraph(sentence), picture, contrast_table(compared), *unpaired


def _why_nothing(setting: Setting) -> str:
    if len(setting.methods) == 1:
        return "There is one method, so nothing to compare it with."
    names = "; ".join(f"--against {name!r}" for name in setting.methods)
    return f"No method is called {DEFAULT_REFERENCE}. Choose the one that the others are compared with: {names}."


def contrast_table(compared: Contrasts) -> Table:
    """A row for each method and measure."""
    header = (
        "method",
        "measure",
        "n",
        "difference",
        "95 % (t)",
        "95 % (bootstrap)",
        "p (t)",
        "p (Wilcoxon)",
        "p (Holm)",
        "verdict",
    )
    rows = tuple(
        (
            one.method,
            one.measure,
            f"{one.test.interval.n}",
            points(one.test.interval.mean),
            interval(one.test.interval.low, one.test.interval.high),
            interval(one.bootstrap.low, one.bootstrap.high) if one.test.has_enough_seeds else "",
            p_value(one.test.p_value),
            p_value(one.wilcoxon),
            p_value(one.holm),
            verdict(one),
        )
        for one in compared.found
    )
    return Table(f"Difference to {compared.reference}, in points", header, rows)


def verdict(contrast: Contrast) -> str:
    """What may be concluded, in a word or two."""
    if not contrast.test.has_enough_seeds:
        return "too few seeds to tell"
    if not contrast.is_significant:
        return "not told apart"
    return "better" if contrast.test.interval.mean > 0 else "worse"


def draw_contrasts(setting: Setting, compared: Contrasts) -> Figure:
    """A panel for each measure; a row for each method, in the style of its curve."""
    measures = list(dict.fromkeys(one.measure for one in compared.found))
    figure = new_figure(6.4, 0.9 + rows_height([one.method for one in compared.of(measures[0])], 0.36))
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    places = {name: number for number, name in enumerate(setting.methods)}
    for axes, measure in zip(panels, measures, strict=True):
        _draw_panel(axes, compared.of(measure), places)
        axes.set_title(measure, fontsize=LABEL_SIZE, color=INK, loc="left")
    figure.supxlabel(plain(f"points of accuracy above {compared.reference}"), fontsize=LABEL_SIZE, color=INK)
    panels[0].invert_yaxis()
    return figure


def _draw_panel(axes: Axes, found: Sequence[Contrast], places: dict[str, int]) -> None:
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, one in enumerate(found):
        style = style_of(places[one.method])
        whole = one.test.interval
        if not isnan(whole.low):
            axes.plot([100 * whole.low, 100 * whole.high], [row, row], color=style.colour, linewidth=1.8)
        axes.plot([100 * whole.mean], [row], style.marker, color=style.colour, markersize=6)
        axes.plot(100 * one.difference, np.full(len(one.difference), row + 0.28), "|", color=FAINT, markersize=5)
    axes.set_yticks(range(len(found)), wrapped(one.method for one in found))
    axes.set_ylim(-0.5, len(found) - 0.4)
    quieten(axes, frame=(), grid="x")
