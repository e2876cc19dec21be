"""The section on differences: each method against one reference, seed by seed, in the last round and by AUBC."""

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
    """The accuracy of a method minus that of the reference, over their common seeds; in [−1, 1]."""

    method: str
    measure: str  # LAST_ROUND | AUBC
    difference: Floats  # (n,) seed by seed
    test: PairedTest
    wilcoxon: float  # p
    bootstrap: Interval
    holm: float  # p of the paired t, corrected for all methods in this measure

    @property
    def is_significant(self) -> bool:
        """True if there are enough seeds and the corrected p is below 0.05."""
        return self.test.has_enough_seeds and self.holm < LEVEL


@dataclass(frozen=True)
class Contrasts:
    """All methods of a setting against its reference."""

    reference: str
    found: tuple[Contrast, ...]  # by measure, then in the order of the methods
    unpaired: tuple[str, ...]  # methods that share no seed with the reference

    def of(self, measure: str) -> tuple[Contrast, ...]:
        """Return the contrasts of one measure."""
        return tuple(contrast for contrast in self.found if contrast.measure == measure)


def reference_of(setting: Setting, against: str | None) -> str | None:
    """Return the method to compare the others with: `against`, else `random`; None if there is nothing to compare.

    Raises:
        ValueError: `against` is no method of the setting.
    """
    if against is not None and against not in setting.methods:
        raise ValueError(
            f"--against {against}: must be one of the methods of {setting.name}: {'; '.join(setting.methods)}"
        )
    found = against or (DEFAULT_REFERENCE if DEFAULT_REFERENCE in setting.methods else None)
    return found if len(setting.methods) > 1 else None


def contrasts(setting: Setting, reference: str) -> Contrasts:
    """Compare every other method of the setting with `reference`, over the seeds that the two share."""
    base = setting.methods[reference]
    others = [method for name, method in setting.methods.items() if name != reference]
    paired = [method for method in others if shared_seeds(method, base)]
    measures = (LAST_ROUND, AUBC) if len(setting.labels) > 1 and has_area(setting.labels) else (LAST_ROUND,)
    found = tuple(contrast for measure in measures for contrast in _contrasts(setting.labels, paired, base, measure))
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
    values, of_base = accuracies(method, seeds), accuracies(base, seeds)
    return values[:, -1] - of_base[:, -1] if measure == LAST_ROUND else aubc(labels, values) - aubc(labels, of_base)


# --- text and figure -------------------------------------------------------------------------------------------------


def contrast_blocks(setting: Setting, compared: Contrasts | None) -> tuple[Block, ...]:
    """Show a figure and a table, or what to compare with; nothing if there is only one method."""
    if len(setting.methods) == 1:
        return ()
    if compared is None:
        return (Paragraph(_why_not_compared(setting)),)
    unpaired = tuple(
        Paragraph(f"{name} shares no seed with {compared.reference} and is not compared.") for name in compared.unpaired
    )
    if not compared.found:
        return unpaired
    sentence = (
        f"Points of accuracy (EMA weights) above {compared.reference}, seed by seed: with the same seed both began "
        f"with the same samples and weights. AUBC is the area under the curve, the mean accuracy over the budget. p is "
        f"that of the paired t test; Holm's p is corrected for {counted(len(compared.of(LAST_ROUND)), 'comparison')} "
        f"in each measure, and decides the verdict, at 5 %, if there are at least {ENOUGH_SEEDS} seeds. Intervals are "
        f"95 % intervals and not corrected; the bootstrap, which is too narrow for few seeds, needs {ENOUGH_SEEDS} too."
    )
    picture = Illustration(
        svg(draw_contrasts(setting, compared)),
        f"Mean differences to {compared.reference} with their intervals; the table has the numbers.",
        f"Mean difference with its 95 % interval (Student's t); a small tick is one seed. Left of the line is worse "
        f"than {compared.reference}.",
    )
    return Paragraph(sentence), picture, contrast_table(compared), *unpaired


def _why_not_compared(setting: Setting) -> str:
    names = "; ".join(f"--against {name!r}" for name in setting.methods)
    return f"No method is called {DEFAULT_REFERENCE}. Choose the method to compare the others with: {names}."


def contrast_table(compared: Contrasts) -> Table:
    """Return a row for each method and measure."""
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
            contrast.method,
            contrast.measure,
            f"{contrast.test.interval.n}",
            points(contrast.test.interval.mean),
            interval(contrast.test.interval.low, contrast.test.interval.high),
            interval(contrast.bootstrap.low, contrast.bootstrap.high) if contrast.test.has_enough_seeds else "",
            p_value(contrast.test.p_value),
            p_value(contrast.wilcoxon),
            p_value(contrast.holm),
            verdict(contrast),
        )
        for contrast in compared.found
    )
    return Table(f"Difference to {compared.reference}, in points", header, rows)


def verdict(contrast: Contrast) -> str:
    """Return the conclusion in a few words."""
    if not contrast.test.has_enough_seeds:
        return "too few seeds"
    if not contrast.is_significant:
        return "not significant"
    return "better" if contrast.test.interval.mean > 0 else "worse"


def draw_contrasts(setting: Setting, compared: Contrasts) -> Figure:
    """Draw a panel for each measure, with a row for each method in the style of its curve."""
    measures = list(dict.fromkeys(contrast.measure for contrast in compared.found))
    figure = new_figure(6.4, 0.9 + rows_height([contrast.method for contrast in compared.of(measures[0])], 0.36))
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    numbers = {name: number for number, name in enumerate(setting.methods)}
    for axes, measure in zip(panels, measures, strict=True):
        _draw_panel(axes, compared.of(measure), numbers)
        axes.set_title(measure, fontsize=LABEL_SIZE, color=INK, loc="left")
    figure.supxlabel(plain(f"points of accuracy above {compared.reference}"), fontsize=LABEL_SIZE, color=INK)
    panels[0].invert_yaxis()
    return figure


def _draw_panel(axes: Axes, contrasts: Sequence[Contrast], numbers: dict[str, int]) -> None:
    axes.axvline(0, color=INK, linewidth=0.9)
    for row, contrast in enumerate(contrasts):
        style, mean, differences = style_of(numbers[contrast.method]), contrast.test.interval, contrast.difference
        if not isnan(mean.low):
            axes.plot([100 * mean.low, 100 * mean.high], [row, row], color=style.colour, linewidth=1.8)
        axes.plot([100 * mean.mean], [row], style.marker, color=style.colour, markersize=6)
        axes.plot(100 * differences, np.full(len(differences), row + 0.28), "|", color=FAINT, markersize=5)
    axes.set_yticks(range(len(contrasts)), wrapped(contrast.method for contrast in contrasts))
    axes.set_ylim(-0.5, len(contrasts) - 0.4)
    quieten(axes, frame=(), grid="x")
