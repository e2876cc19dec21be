"""Accuracy against optimizer steps over all rounds (the paper's Fig. 7), where the numbers of labels may differ."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from statistics import fmean, median, stdev

from matplotlib.figure import Figure

from assl_lightning.base.differences import differences
from assl_lightning.base.run_files import round_directory
from assl_lightning.base.words import counted, counted_each, mean_and_deviation, per_cent
from assl_lightning.report.analysis.comparison import SEEDS_THAT_TELL
from assl_lightning.report.analysis.runs import WHERE_IMAGES_LIE, Run, group
from assl_lightning.report.curve import Curve, draw_curves
from assl_lightning.report.drawing import style_of, svg
from assl_lightning.report.sections.accuracy import accuracy_label
from assl_lightning.report.sections.provenance import versions_table
from assl_lightning.report.tidy import rows_as_csv
from assl_lightning.report.views import Illustration, Page, Paragraph, Section, Table

FILE_NAME = "metrics.csv"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on the test set during training."""

    round: int
    labels: int  # that the round trains on
    step: int  # optimizer steps made until then, over all rounds
    ema: float  # accuracy of the averaged weights, in [0, 1]; where there are none, as raw
    raw: float  # of the weights themselves


@dataclass(frozen=True)
class Course:
    """A method from its first step to its last, test by test."""

    name: str
    evaluations: dict[int, tuple[Evaluation, ...]]  # seed → by step
    runs: tuple[Run, ...]

    @property
    def labels(self) -> tuple[int, int]:
        """Trained on in the first and in the last round."""
        evaluations = [one for seed in self.evaluations.values() for one in seed]
        return min(one.labels for one in evaluations), max(one.labels for one in evaluations)

    @property
    def last(self) -> float:
        """Accuracy at the last test, mean over seeds."""
        return fmean(evaluations[-1].ema for evaluations in self.evaluations.values())

    def first_reaching(self, accuracy: float) -> list[int]:
        """For each seed that reaches `accuracy`, the step of the first test at which it does."""
        reaching = (
            [one.step for one in evaluations if one.ema >= accuracy] for evaluations in self.evaluations.values()
        )
        return [steps[0] for steps in reaching if steps]


def read_courses(runs: Sequence[Run]) -> list[Course]:
    """The runs as methods over seeds, by whatever number of labels, rounds and steps.

    Raises:
        ValueError: the runs are of several data sets or networks, or a round's evaluations are not there.
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
        Course(
            method.name if count[method.name] == 1 else _name(method.name, setting.name),
            {seed: read_evaluations(run) for seed, run in sorted(method.runs.items())},
            tuple(method.runs.values()),
        )
        for setting in settings
        for method in setting.methods.values()
    ]


def _name(method: str, setting: str) -> str:
    """What tells the setting from others follows its data and network, which all share."""
    return ", ".join(part for part in (method, setting.partition(", ")[2]) if part)


def read_evaluations(run: Run) -> tuple[Evaluation, ...]:
    """Every test that the run's CSV logger has written, by step."""
    evaluations: dict[int, Evaluation] = {}
    before = 0
    for record in run.all_records:
        path = round_directory(run.directory, record.round) / FILE_NAME
        if not path.exists():
            raise ValueError(
                f"{path} is missing, but --steps reads the tests in it; only runs with trainer/logger=csv have it"
            )
        try:
            for step, ema, raw in _read_tests(path):
                evaluations[before + step] = Evaluation(record.round, record.labels, before + step, ema, raw)
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise ValueError(
                f"{path} must have a whole number in step and accuracies in [0, 1] where there are any "
                f"({type(error).__name__}: {error}); restore it, or leave {run.directory} out"
            ) from error
        before += record.steps
    if not evaluations:
        raise ValueError(f"{run.directory} has no row with test_accuracy_raw in its {FILE_NAME} files; leave it out")
    return tuple(evaluations[step] for step in sorted(evaluations))


def _read_tests(path: Path) -> Iterator[tuple[int, float, float]]:
    """Step from 1 and accuracies (EMA, raw) of each row of a metrics file that has a test."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row.get("test_accuracy_raw"):
                raw = float(row["test_accuracy_raw"])
                ema = float(row.get("test_accuracy_ema") or raw)
                step = int(row["step"]) + 1  # the logger counts from 0
                if step < 1 or any(share < 0 or share > 1 or isinf(share) for share in (raw, ema)):
                    raise ValueError(f"got step {row['step']} with {raw} and {ema}")
                yield step, ema, raw


def steps_csv(courses: Sequence[Course]) -> str:
    """A row for each method, seed and test."""
    return rows_as_csv(
        [
            {
                "method": course.name,
                "seed": seed,
                "round": one.round,
                "labels": one.labels,
                "step": one.step,
                "test_accuracy_ema": one.ema,
                "test_accuracy_raw": one.raw,
            }
            for course in courses
            for seed, evaluations in course.evaluations.items()
            for one in evaluations
        ]
    )


# --- what is written and drawn ---------------------------------------------------------------------------------------


def steps_page(courses: Sequence[Course], title: str | None) -> Page:
    """The whole report."""
    caption = "Test accuracy of the averaged (EMA) weights against optimizer steps over all rounds."
    figure = Illustration(svg(draw_steps(courses)), f"{caption} The tables have the numbers.", caption)
    best = "The best is chosen by the test set, so it flatters; the last is what a run would have ended with."
    reach = (
        "The step of the first test at which the row's method is at least as good as the column's is at its last, mean "
        "over seeds: median over the seeds that get there, and how many of them do. It is no finer than the steps "
        "between two tests."
    )
    sections = [
        Section("Accuracy against steps", (figure, Paragraph(best), summary_table(courses))),
        Section("Versions", (versions_table([run for course in courses for run in course.runs]),)),
    ]
    if len(courses) > 1:
        sections.insert(1, Section("Who gets there first", (Paragraph(reach), reaching_table(courses))))
    return Page(title or "Accuracy against steps", (_lead(courses),), tuple(sections))


def _lead(courses: Sequence[Course]) -> str:
    counts = [len(course.evaluations) for course in courses]
    text = f"{counted(len(courses), 'method')}, {counted_each(counts, 'seed')} each."
    if len({course.labels for course in courses}) > 1:
        text += " They had different numbers of labels, so fewer steps may be bought by more labels."
    if min(counts) < SEEDS_THAT_TELL:
        text += f" With fewer than {SEEDS_THAT_TELL} seeds it cannot tell whether the difference would be there again."
    return text


def draw_steps(courses: Sequence[Course], title: str | None = None) -> Figure:
    """Mean ± s.d. where all seeds of a method were tested at the same steps, or else a line a seed."""
    curves = [curve for number, course in enumerate(courses) for curve in _curves(course, number)]
    label = accuracy_label([len(course.evaluations) for course in courses])
    return draw_curves(curves, title=title, x_label="optimizer steps", y_label=label, ticks_at_points=False)


def _curves(course: Course, number: int) -> list[Curve]:
    steps = [tuple(one.step for one in evaluations) for evaluations in course.evaluations.values()]
    style = style_of(number)
    if len(set(steps)) > 1:
        return [
            Curve(
                f"{course.name}, seed {seed}",
                [one.step for one in evaluations],
                [100 * one.ema for one in evaluations],
                style=style,
                width=0.9,
            )
            for seed, evaluations in course.evaluations.items()
        ]
    rows = [[100 * one.ema for one in evaluations] for evaluations in course.evaluations.values()]
    deviation = [stdev(values) for values in zip(*rows, strict=True)] if len(rows) > 1 else []
    return [Curve(course.name, steps[0], [fmean(values) for values in zip(*rows, strict=True)], deviation, style)]


def summary_table(courses: Sequence[Course]) -> Table:
    """A row a method: its best and its last accuracy, seed by seed."""
    rows = []
    for course in courses:
        best = [max(evaluations, key=lambda one: one.ema) for evaluations in course.evaluations.values()]
        last = [evaluations[-1] for evaluations in course.evaluations.values()]
        few, many = course.labels
        rows.append(
            (
                f"{course.name} (n = {len(best)})",
                f"{few:,}" if few == many else f"{few:,} to {many:,}",
                mean_and_deviation([one.ema for one in best]),
                f"{median(one.step for one in best):,.0f}",
                mean_and_deviation([one.ema for one in last]),
                f"{median(one.step for one in last):,.0f}",
            )
        )
    header = ("method", "labels", "best (%)", "at step (median)", "last (%)", "at step (median)")
    return Table("Test accuracy (EMA weights), mean ± s.d. over n seeds", header, tuple(rows))


def reaching_table(courses: Sequence[Course]) -> Table:
    """Row, column → the step at which the row's method first reaches the column's last accuracy."""
    header = ("reaches →", *(f"{course.name} ({per_cent(course.last)})" for course in courses))
    rows = tuple(
        (course.name, *("" if course is other else _reached(course, other) for other in courses)) for course in courses
    )
    return Table("Steps until the other's last accuracy", header, rows)


def _reached(course: Course, other: Course) -> str:
    steps, seeds = course.first_reaching(other.last), len(course.evaluations)
    return f"{median(steps):,.0f} ({len(steps)} of {seeds})" if steps else f"never (0 of {seeds})"
