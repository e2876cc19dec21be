"""The section on accuracy: a curve and a row for each method, mean and standard deviation over its seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from matplotlib.figure import Figure

from assl_lightning.base.words import UNKNOWN, counted_each, mean_and_deviation
from assl_lightning.loop.records import RoundRecord
from assl_lightning.report.analysis.classes import describe_changes
from assl_lightning.report.analysis.comparison import aubc, has_area
from assl_lightning.report.analysis.runs import Accuracy, Method, Setting, accuracies
from assl_lightning.report.conclusions import common_rounds
from assl_lightning.report.curve import MOST_TOGETHER, Curve, draw_curves, draw_panels
from assl_lightning.report.drawing import style_of, svg
from assl_lightning.report.sections.contrasts import DEFAULT_REFERENCE
from assl_lightning.report.sections.hold_out import describe_test_set_of
from assl_lightning.report.views import Block, Illustration, Paragraph, Table

MEASURES: tuple[tuple[str, Callable[[RoundRecord], float | None]], ...] = (
    ("EMA", lambda record: record.test_accuracy_ema),
    ("raw", lambda record: record.test_accuracy_raw),
    ("EMA, balanced", lambda record: record.test_balanced_accuracy_ema),
    ("raw, balanced", lambda record: record.test_balanced_accuracy_raw),
)


def accuracy_blocks(setting: Setting) -> tuple[Block, ...]:
    """Describe the test set, and show the curves, the accuracy after each round, and more measures of the last one."""
    several = any(len(method.runs) > 1 for method in setting.methods.values())
    band = "; the band is ± one sample standard deviation over seeds" if several else ""
    more = f"{_of_panels(setting)}{_over(setting)}"
    figure = Illustration(
        svg(draw_accuracy(setting)),
        "Test accuracy against the number of labels, a line for each method; the table has the numbers.",
        f"Test accuracy of the averaged (EMA) weights at the last step of each round{band}{more}.",
    )
    tested = Paragraph(describe_test_set_of(setting))
    changes = dict.fromkeys(text for run in setting.runs if (text := describe_changes(run.directory, run.records)))
    return tested, *map(Paragraph, changes), figure, accuracy_table(setting), last_round_table(setting)


def draw_accuracy(setting: Setting, title: str | None = None) -> Figure:
    """Draw the mean over seeds against labels, with a band of ± one standard deviation (n − 1) for several seeds."""
    curves = [curve_of(method, setting.labels) for method in setting.methods.values()]
    y_label = accuracy_label([len(method.runs) for method in setting.methods.values()])
    if len(curves) > MOST_TOGETHER:
        reference = next((curve for curve in curves if curve.name == DEFAULT_REFERENCE), None)
        return draw_panels(curves, reference, title=title, y_label=y_label)
    styled = [replace(curve, style=style_of(number)) for number, curve in enumerate(curves)]
    return draw_curves(styled, title=title, y_label=y_label)


def _of_panels(setting: Setting) -> str:
    if len(setting.methods) <= MOST_TOGETHER:
        return ""
    dashed = f", dashed: {DEFAULT_REFERENCE}" if DEFAULT_REFERENCE in setting.methods else ""
    return f"; a panel for each method, with its last value{dashed}"


def accuracy_label(seeds: Sequence[int]) -> str:
    """Return the label of the axis, with the number of seeds."""
    if max(seeds) == 1:
        return "test accuracy (%), one seed"
    return f"test accuracy (%), mean ± s.d. of {counted_each(seeds, 'seed')}"


def curve_of(method: Method, labels: Sequence[int], which: Accuracy = "ema") -> Curve:
    """Return a method's mean and deviation over its seeds, after each round."""
    rounds = [(100 * values).tolist() for values in accuracies(method, sorted(method.runs), which).T]
    deviation = [stdev(values) for values in rounds] if len(method.runs) > 1 else []
    return Curve(method.name, labels, [fmean(values) for values in rounds], deviation)


def accuracy_table(setting: Setting) -> Table:
    """Return the mean ± sample s.d. after each number of labels, in per cent."""
    rows = []
    for method in setting.methods.values():
        values = accuracies(method, sorted(method.runs))
        area = aubc(setting.labels, values).tolist() if has_area(setting.labels) else [None]
        cells = [mean_and_deviation(after) for after in values.T.tolist()]
        rows.append((f"{method.name} (n = {len(method.runs)})", *cells, mean_and_deviation(area)))
    header = ("labels", *(f"{count:,}" for count in setting.labels), "AUBC")
    return Table(f"Test accuracy (%, EMA weights), mean ± s.d. over n seeds{_over(setting)}", header, tuple(rows))


def last_round_table(setting: Setting) -> Table:
    """Return the accuracies after the last round by all measures that the runs have."""
    last = {
        f"{method.name} (n = {len(method.runs)})": [run.records[-1] for _, run in sorted(method.runs.items())]
        for method in setting.methods.values()
    }
    columns = {
        name: [mean_and_deviation([of(record) for record in records]) for records in last.values()]
        for name, of in MEASURES
    }
    known = {name: cells for name, cells in columns.items() if set(cells) != {UNKNOWN}}
    rows = tuple((name, *(cells[row] for cells in known.values())) for row, name in enumerate(last))
    caption = f"Last round (%), by weights; balanced is the mean over classes{_over(setting)}"
    return Table(caption, ("last round", *known), rows)


def _over(setting: Setting) -> str:
    return f"; over {common_rounds(setting)}" if setting.is_cut else ""
