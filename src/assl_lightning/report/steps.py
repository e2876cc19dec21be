"""Accuracy against optimizer steps over all rounds (the paper's Fig. 7), where the numbers of labels may differ."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from matplotlib.figure import Figure

from assl_lightning.analysis.comparison import SEEDS_THAT_TELL
from assl_lightning.analysis.runs import Run, group
from assl_lightning.differences import differences
from assl_lightning.report.accuracy import accuracy_label
from assl_lightning.report.curve import Curve, draw_curves
from assl_lightning.report.drawing import style_of, svg
from assl_lightning.report.numerals import counted, per_cent, spread
from assl_lightning.report.provenance import versions_table
from assl_lightning.report.tidy import rows_as_csv
from assl_lightning.report.views import Illustration, Page, Paragraph, Section, Table

FILE_NAME = "metrics.csv"
_ANYWHERE = ("data.root", "data.source.root", "data.source.download")  # the same images may lie elsewhere


@dataclass(frozen=True)
class Test:
    """One test during training."""

    round: int
    labels: int  # that the round trains on
    step: int  # optimizer steps made until then, over all rounds
    ema: float  # accuracy of the averaged weights, in [0, 1]; where there are none, as raw
    raw: float  # of the weights themselves


@dataclass(frozen=True)
class Course:
    """A method from its first step to its last, test by test."""

    name: str
    tests: dict[int, tuple[Test, ...]]  # seed → by step
    runs: tuple[Run, ...]

    @property
    def labels(self) -> tuple[int, int]:
        """Trained on in the first and in the last round."""
        tests = [test for seed in self.tests.values() for test in seed]
        return min(test.labels for test in tests), max(test.labels for test in tests)

    @property
    def last(self) -> float:
        """Accuracy at the last test, mean over seeds."""
        return fmean(tests[-1].ema for tests in self.tests.values())

    def first_reaching(self, accuracy: float) -> list[int]:
        """For each seed that reaches `accuracy`, the step of the first test at which it does."""
        reaching = ([test.step for test in tests if test.ema >= accuracy] for tests in self.tests.values())
        return [steps[0] for steps in reaching if steps]


def read_courses(runs: Sequence[Run]) -> list[Course]:
    """The runs as methods over seeds, by whatever number of labels, rounds and steps.

    Raises:
        ValueError: the runs are of several data sets or networks, or a round's tests are not there.
    """
    first = runs[0]
    for run in runs[1:]:
        found = [
            difference
            for key in ("data", "network")
            for difference in differences(first.config[key], run.config[key], _ANYWHERE, prefix=f"{key}.")
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
            {seed: read_tests(run) for seed, run in sorted(method.runs.items())},
            tuple(method.runs.values()),
        )
        for setting in settings
        for method in setting.methods.values()
    ]


def _name(method: str, setting: str) -> str:
    """What tells the setting from others follows its data and network, which all share."""
    return ", ".join(part for part in (method, setting.partition(", ")[2]) if part)


def read_tests(run: Run) -> tuple[Test, ...]:
    """Every test that the run's CSV logger has written, by step."""
    tests: dict[int, Test] = {}
    before = 0
    for record in run.records:
        path = run.directory / f"round_{record.round:02d}" / FILE_NAME
        if not path.exists():
            raise ValueError(
                f"{path} is missing, but --steps reads the tests in it; only runs with trainer/logger=csv have it"
            )
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("test_accuracy_raw"):
                    step = before + int(row["step"]) + 1  # the logger counts from 0
                    raw = float(row["test_accuracy_raw"])
                    tests[step] = Test(
                        record.round, record.labels, step, float(row.get("test_accuracy_ema") or raw), raw
                    )
        before += record.steps
    if not tests:
        raise ValueError(f"{run.directory} has no row with test_accuracy_raw in its {FILE_NAME} files; leave it out")
    return tuple(tests[step] for step in sorted(tests))


def steps_csv(courses: Sequence[Course]) -> str:
    """A row for each method, seed and test."""
    return rows_as_csv(
        [
            {
                "method": course.name,
                "seed": seed,
                "round": test.round,
                "labels": test.labels,
                "step": test.step,
                "test_accuracy_ema": test.ema,
                "test_accuracy_raw": test.raw,
            }
            for course in courses
            for seed, tests in course.tests.items()
            for test in tests
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
    counts = [len(course.tests) for course in courses]
    seeds = counted(counts[0], "seed") if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)} seeds"
    text = f"{counted(len(courses), 'method')}, {seeds} each."
    if len({course.labels for course in courses}) > 1:
        text += " They had different numbers of labels, so fewer steps may be bought by more labels."
    if min(counts) < SEEDS_THAT_TELL:
        text += f" With fewer than {SEEDS_THAT_TELL} seeds it cannot tell whether the difference would be there again."
    return text


def draw_steps(courses: Sequence[Course], title: str | None = None) -> Figure:
    """Mean ± s.d. where all seeds of a method were tested at the same steps, or else a line a seed."""
    curves = [curve for number, course in enumerate(courses) for curve in _curves(course, number)]
    label = accuracy_label([len(course.tests) for course in courses])
    return draw_curves(curves, title=title, x_label="optimizer steps", y_label=label, ticks_at_points=False)


def _curves(course: Course, number: int) -> list[Curve]:
    steps = [tuple(test.step for test in tests) for tests in course.tests.values()]
    style = style_of(number)
    if len(set(steps)) > 1:
        return [
            Curve(
                f"{course.name}, seed {seed}",
                [test.step for test in tests],
                [100 * test.ema for test in tests],
                style=style,
                width=0.9,
            )
            for seed, tests in course.tests.items()
        ]
    rows = [[100 * test.ema for test in tests] for tests in course.tests.values()]
    deviation = [stdev(values) for values in zip(*rows, strict=True)] if len(rows) > 1 else []
    return [Curve(course.name, steps[0], [fmean(values) for values in zip(*rows, strict=True)], deviation, style)]


def summary_table(courses: Sequence[Course]) -> Table:
    """A row a method: its best and its last accuracy, seed by seed."""
    rows = []
    for course in courses:
        best = [max(tests, key=lambda test: test.ema) for tests in course.tests.values()]
        last = [tests[-1] for tests in course.tests.values()]
        few, many = course.labels
        rows.append(
            (
                f"{course.name} (n = {len(best)})",
                f"{few:,}" if few == many else f"{few:,} to {many:,}",
                spread([test.ema for test in best]),
                f"{median(test.step for test in best):,.0f}",
                spread([test.ema for test in last]),
                f"{median(test.step for test in last):,.0f}",
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
    steps = course.first_reaching(other.last)
    return (
        f"{median(steps):,.0f} ({len(steps)} of {len(course.tests)})" if steps else f"never (0 of {len(course.tests)})"
    )
