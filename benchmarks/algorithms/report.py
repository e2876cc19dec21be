"""`python -m benchmarks.algorithms.report DIRECTORY …`: the tables of results/algorithms.

The runs lie in REGIME/METHOD/seed_N, and REGIME is their name. Accuracy is that of the averaged weights at the last
step; in a long tail the mean over the classes. Differences are taken seed by seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from statistics import fmean, median

from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.words import UNKNOWN, counted_each, interval, mean_and_deviation, p_value, per_cent, points
from assl_lightning.report.analysis.runs import Method, Run, find_runs
from assl_lightning.report.labels_needed.regimes import Against, Question, Regime, Result, find_regimes
from assl_lightning.report.markdown import render_markdown
from assl_lightning.report.output import write_files
from assl_lightning.report.sections.contrasts import LEVEL
from assl_lightning.report.tidy import tidy_csv
from assl_lightning.report.views import Page, Section, Table
from benchmarks.algorithms.plan import REGIMES

REFERENCE = "fixmatch"


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them with the numbers as CSV; after an error nothing is written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.algorithms.report", description=__doc__)
    parser.add_argument("directories", nargs="+", type=path_argument, help="directories with runs anywhere below them")
    parser.add_argument("--output", metavar="DIR", type=path_argument, required=True, help="where to write")
    options = parser.parse_args(arguments)
    runs = find_runs(options.directories)
    regimes = regimes_of(runs)
    tables = render_markdown(page_of(regimes, len([run for run in runs if not run.is_complete])))
    numbers = tidy_csv([regime.setting for regime in regimes])
    write_files({"tables.md": tables.encode(), "results.csv": numbers.encode()}, options.output)
    sys.stdout.write(tables)


def regimes_of(runs: Sequence[Run]) -> list[Regime]:
    """Group the complete runs, and compare each method with FixMatch, and with itself without its switch."""
    methods = dict.fromkeys(run.directory.parent.name for run in runs if run.is_complete)
    without = [name.partition("+")[0] for name in methods if "+" in name]
    baselines = dict.fromkeys([REFERENCE, *(name for name in without if name in methods)])
    found = find_regimes(runs, Question(tuple(baselines), by_directory=True))
    return sorted(
        found, key=lambda regime: list(REGIMES).index(regime.name) if regime.name in REGIMES else len(REGIMES)
    )


def page_of(regimes: Sequence[Regime], incomplete: int) -> Page:
    """Return the tables: balanced pools, then long tails, then what a step costs."""
    even = [regime for regime in regimes if regime.which != "balanced"]
    tails = [regime for regime in regimes if regime.which == "balanced"]
    seeds = [len(result.last) for regime in regimes for result in regime.results.values()]
    lead = [
        f"{counted_each(seeds, 'seed')} of each method. Accuracy is that of the averaged weights at the last step. "
        f"Differences are in points, seed by seed, with the 95 % interval of Student's paired t; * marks p < 0.05 "
        f"after Holm's correction over the regimes of a method."
    ]
    if incomplete:
        lead.append(f"Runs that are not complete, and left out: {incomplete}.")
    sections = [
        Section(title, (accuracy_table(group), difference_table(group)))
        for title, group in (("Classes that are about as frequent", even), ("Long tails: balanced accuracy", tails))
        if group
    ]
    switched = switch_table(regimes)
    if switched.rows:
        sections.append(Section("What the switches change", (switched,)))
    return Page("Learning algorithms", tuple(lead), (*sections, Section("Steps", (step_table(regimes),))))


def accuracy_table(regimes: Sequence[Regime]) -> Table:
    """Return a row for each method, a column for each regime."""
    return _table(
        "Test accuracy (%), mean ± s.d. over seeds", regimes, lambda result: mean_and_deviation(result.last.tolist())
    )


def difference_table(regimes: Sequence[Regime]) -> Table:
    """Return the same of the differences to FixMatch."""

    def cell(result: Result) -> str:
        against = result.against.get(REFERENCE)
        return "" if against is None else _difference(against)

    return _table(f"Accuracy above that of {REFERENCE}", regimes, cell)


def switch_table(regimes: Sequence[Regime]) -> Table:
    """Return a row for each method with a switch in each regime: what it changes, and how sure that is."""
    rows = []
    for regime in regimes:
        for name, result in regime.results.items():
            base = name.partition("+")[0]
            against = result.against.get(base) if base != name else None
            if against is not None:
                n, p = against.last.interval.n, p_value(against.last.p_value)
                means = (mean_and_deviation(values.tolist()) for values in (result.last, regime.results[base].last))
                rows.append((f"{regime.name}, {name}", str(n), *means, _difference(against), p))
    header = ("method", "n", "with", "without", "difference", "p")
    return Table("Accuracy (%) with a switch and without it, over the seeds that both have", header, tuple(rows))


def step_table(regimes: Sequence[Regime]) -> Table:
    """Return a row for each method of each regime: optimizer steps a second, and what the pseudo-labels counted."""
    rows = []
    for regime in regimes:
        speeds = {name: _speed(method) for name, method in regime.setting.methods.items()}
        reference = speeds.get(REFERENCE)
        for name, method in regime.setting.methods.items():
            rates = [run.records[-1].mask_rate for run in method.runs.values()]
            known = [rate for rate in rates if rate is not None]
            ratio = f"{speeds[name] / reference:.2f}" if reference else UNKNOWN
            mean_rate = per_cent(fmean(known)) if known else UNKNOWN
            rows.append((f"{regime.name}, {name}", f"{speeds[name]:.1f}", ratio, mean_rate))
    header = ("method", "steps a second", f"ratio to {REFERENCE}", "mean weight of the pseudo-labels, %")
    caption = (
        "Medians over seeds; they can be compared only if all runs had the same share of the machine (PROTOCOL.md says "
        "which machine, and what else ran on it). The weight is the mean over seeds at the end of the training"
    )
    return Table(caption, header, tuple(rows))


def _speed(method: Method) -> float:
    records = [record for run in method.runs.values() for record in run.records]
    return median(record.steps / record.seconds["train"] for record in records)


def _difference(against: Against) -> str:
    mean = against.last.interval
    mark = " *" if against.aubc.has_enough_seeds and against.holm < LEVEL else ""
    return f"{points(mean.mean)} {interval(mean.low, mean.high)}{mark}"


def _table(caption: str, regimes: Sequence[Regime], cell: Callable[[Result], str]) -> Table:
    methods = dict.fromkeys(name for regime in regimes for name in regime.results)
    rows = [
        (name, *(cell(regime.results[name]) if name in regime.results else "" for regime in regimes))
        for name in methods
    ]
    return Table(caption, ("method", *(regime.name for regime in regimes)), tuple(row for row in rows if any(row[1:])))


if __name__ == "__main__":
    sys.exit(main())
