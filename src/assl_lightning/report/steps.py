"""Accuracy against optimizer steps over all rounds (Fig. 7 of the paper); the numbers of labels may differ."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from statistics import fmean, median, stdev

from matplotlib.figure import Figure

from assl_lightning.base.csv_text import rows_as_csv
from assl_lightning.base.differences import differences
from assl_lightning.base.run_files import round_directory
from assl_lightning.base.words import counted, counted_each, from_to, mean_and_deviation, per_cent
from assl_lightning.report.analysis.comparison import ENOUGH_SEEDS
from assl_lightning.report.analysis.grouping import WHERE_IMAGES_LIE, group
from assl_lightning.report.analysis.runs import Run
from assl_lightning.report.curve import Curve, draw_curves
from assl_lightning.report.drawing import style_of, svg
from assl_lightning.report.sections.accuracy import accuracy_label
from assl_lightning.report.sections.provenance import versions_table
from assl_lightning.report.views import Illustration, Page, Paragraph, Section, Table

FILE_NAME = "metrics.csv"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the test set during training."""

    round: int
    labels: int  # of the round's training set
    step: int  # optimizer steps until then, over all rounds
    ema: float  # accuracy of the averaged weights, in [0, 1]; equal to raw if there are none
    raw: float  # accuracy of the weights themselves


@dataclass(frozen=True)
class AccuracyOverSteps:
    """The evaluations of a method, from its first step to its last."""

    name: str
    evaluations: dict[int, tuple[Evaluation, ...]]  # seed → evaluations by step
    runs: tuple[Run, ...]

    @property
    def labels(self) -> tuple[int, int]:
        """The smallest and the largest number of labels."""
        labels = [evaluation.labels for evaluations in self.evaluations.values() for evaluation in evaluations]
        return min(labels), max(labels)

    @property
    def last(self) -> float:
        """The accuracy of the last evaluation, averaged over seeds."""
        return fmean(evaluations[-1].ema for evaluations in self.evaluations.values())

    def first_reaching(self, accuracy: float) -> list[int]:
        """Return the step of the first evaluation with at least this accuracy, of each seed that has one."""
        reaching = (
            [evaluation.step for evaluation in evaluations if evaluation.ema >= accuracy]
            for evaluations in self.evaluations.values()
        )
        return [steps[0] for steps in reaching if steps]


def read_accuracies_over_steps(runs: Sequence[Run]) -> list[AccuracyOverSteps]:
    """Read the evaluations of runs, grouped by method; numbers of labels, rounds and steps may differ.

    Raises:
        ValueError: the runs have several data sets or networks, or the evaluations of a round are missing.
    """
    first = runs[0]
    for run in runs[1:]:
        found = [
            difference
            for key in ("data", "network")
            for difference in differences(first.config[key], run.config[key], WHERE_IMAGES_LIE, prefix=f"{key}.")
        ]
        if found:
            raise ValueError(
                f"{first.directory} and {run.directory} must have the same data and network to be compared step by "
                f"step, but differ ({'; '.join(found)}); give runs of one data set and network"
            )
    settings = group(runs, by_setting=True)
    count = Counter(name for setting in settings for name in setting.methods)
    return [
        AccuracyOverSteps(
            method.name if count[method.name] == 1 else _name(method.name, setting.name),
            {seed: read_evaluations(run) for seed, run in sorted(method.runs.items())},
            tuple(method.runs.values()),
        )
        for setting in settings
        for method in setting.methods.values()
    ]


def _name(method: str, setting: str) -> str:
    """Append to a method's name the parts of its setting's name that follow data and network."""
    return ", ".join(part for part in (method, setting.partition(", ")[2]) if part)


def read_evaluations(run: Run) -> tuple[Evaluation, ...]:
    """Read all evaluations that the run's CSV logger has written, by step."""
    evaluations: dict[int, Evaluation] = {}
    before = 0
    for record in run.all_records:
        path = round_directory(run.directory, record.round) / FILE_NAME
        if not path.exists():
            raise ValueError(
                f"{path} is missing, but --steps reads the evaluations in it; only runs with trainer/logger=csv have it"
            )
        try:
            for step, ema, raw in _read_metrics(path):
                evaluations[before + step] = Evaluation(record.round, record.labels, before + step, ema, raw)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise ValueError(
                f"{path} must have a whole number in step and, if any, accuracies in [0, 1] "
                f"({type(error).__name__}: {error}); restore it, or leave {run.directory} out"
            ) from error
        before += record.steps
    if not evaluations:
        raise ValueError(f"{run.directory} has no row with test_accuracy_raw in its {FILE_NAME} files; leave it out")
    return tuple(evaluations[step] for step in sorted(evaluations))


def _read_metrics(path: Path) -> Iterator[tuple[int, float, float]]:
    """Yield the step, from 1, and the accuracies (EMA, raw) of each row with an evaluation."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("test_accuracy_raw"):
                raw = float(row["test_accuracy_raw"])
                ema = float(row.get("test_accuracy_ema") or raw)
                step = int(row["step"]) + 1  # the logger counts from 0
                if step < 1 or any(share < 0 or share > 1 or isinf(share) for share in (raw, ema)):
                    raise ValueError(f"got step {row['step']} with {raw} and {ema}")
                yield step, ema, raw


def steps_csv(methods: Sequence[AccuracyOverSteps]) -> str:
    """Write a row for each method, seed and evaluation."""
    return rows_as_csv(
        [
            {
                "method": method.name,
                "seed": seed,
                "round": evaluation.round,
                "labels": evaluation.labels,
                "step": evaluation.step,
                "test_accuracy_ema": evaluation.ema,
                "test_accuracy_raw": evaluation.raw,
            }
            for method in methods
            for seed, evaluations in method.evaluations.items()
            for evaluation in evaluations
        ]
    )


# --- page and figure -------------------------------------------------------------------------------------------------


def steps_page(methods: Sequence[AccuracyOverSteps], title: str | None) -> Page:
    """Return the whole report."""
    caption = "Test accuracy of the averaged (EMA) weights against optimizer steps over all rounds."
    figure = Illustration(svg(draw_steps(methods)), f"{caption} The tables have the numbers.", caption)
    best = "The best accuracy is chosen on the test set, so it is too optimistic; the last one is the result of a run."
    reach = (
        "The step of the first test at which the row's method reaches the column's last accuracy (mean over seeds): "
        "the median over the seeds that reach it, and their number. Its resolution is the number of steps between two "
        "tests."
    )
    sections = [
        Section("Accuracy against steps", (figure, Paragraph(best), summary_table(methods))),
        Section("Versions", (versions_table([run for method in methods for run in method.runs]),)),
    ]
    if len(methods) > 1:
        sections.insert(1, Section("Who gets there first", (Paragraph(reach), reaching_table(methods))))
    return Page(title or "Accuracy against steps", (_lead(methods),), tuple(sections))


def _lead(methods: Sequence[AccuracyOverSteps]) -> str:
    counts = [len(method.evaluations) for method in methods]
    text = f"{counted(len(methods), 'method')}, {counted_each(counts, 'seed')} each."
    if len({method.labels for method in methods}) > 1:
        text += " Their numbers of labels differ, so that a method may need fewer steps because it has more labels."
    if min(counts) < ENOUGH_SEEDS:
        text += f" With fewer than {ENOUGH_SEEDS} seeds these differences cannot be tested."
    return text


def draw_steps(methods: Sequence[AccuracyOverSteps], title: str | None = None) -> Figure:
    """Draw the mean ± s.d. if all seeds of a method were tested at the same steps, else a line for each seed."""
    curves = [curve for number, method in enumerate(methods) for curve in _curves(method, number)]
    label = accuracy_label([len(method.evaluations) for method in methods])
    return draw_curves(curves, title=title, x_label="optimizer steps", y_label=label, ticks_at_points=False)


def _curves(method: AccuracyOverSteps, number: int) -> list[Curve]:
    steps = [tuple(evaluation.step for evaluation in evaluations) for evaluations in method.evaluations.values()]
    style = style_of(number)
    if len(set(steps)) > 1:
        return [
            Curve(
                f"{method.name}, seed {seed}",
                [evaluation.step for evaluation in evaluations],
                [100 * evaluation.ema for evaluation in evaluations],
                style=style,
                width=0.9,
            )
            for seed, evaluations in method.evaluations.items()
        ]
    rows = [[100 * evaluation.ema for evaluation in evaluations] for evaluations in method.evaluations.values()]
    deviation = [stdev(values) for values in zip(*rows, strict=True)] if len(rows) > 1 else []
    return [Curve(method.name, steps[0], [fmean(values) for values in zip(*rows, strict=True)], deviation, style)]


def summary_table(methods: Sequence[AccuracyOverSteps]) -> Table:
    """Return a row for each method with its best and its last accuracy."""
    rows = []
    for method in methods:
        best = [max(evaluations, key=lambda evaluation: evaluation.ema) for evaluations in method.evaluations.values()]
        last = [evaluations[-1] for evaluations in method.evaluations.values()]
        rows.append(
            (
                f"{method.name} (n = {len(best)})",
                from_to(method.labels),
                mean_and_deviation([evaluation.ema for evaluation in best]),
                f"{median(evaluation.step for evaluation in best):,.0f}",
                mean_and_deviation([evaluation.ema for evaluation in last]),
                f"{median(evaluation.step for evaluation in last):,.0f}",
            )
        )
    header = ("method", "labels", "best (%)", "at step (median)", "last (%)", "at step (median)")
    return Table("Test accuracy (EMA weights), mean ± s.d. over n seeds", header, tuple(rows))


def reaching_table(methods: Sequence[AccuracyOverSteps]) -> Table:
    """Return, for each pair, the step at which the row's method first reaches the column's last accuracy."""
    header = ("reaches →", *(f"{method.name} ({per_cent(method.last)})" for method in methods))
    rows = tuple(
        (method.name, *("" if method is other else _reached(method, other) for other in methods)) for method in methods
    )
    return Table("Steps until the other's last accuracy", header, rows)


def _reached(method: AccuracyOverSteps, other: AccuracyOverSteps) -> str:
    steps, seeds = method.first_reaching(other.last), len(method.evaluations)
    return f"{median(steps):,.0f} ({len(steps)} of {seeds})" if steps else f"never (0 of {seeds})"
