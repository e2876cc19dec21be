"""`python -m benchmarks.regimes.rounding_report DIRECTORY`: the tables of results/rounding.

Differences to the float32 run of the same rule and seed, in points of accuracy, with the 95 % interval of Student's
paired t; and the picks that both have in common at the first query, before which nothing but the rounding differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.words import UNKNOWN, interval, mean_and_deviation, per_cent, points
from assl_lightning.report.analysis.comparison import aubc, paired_t
from assl_lightning.report.analysis.overlap import picks_overlap
from assl_lightning.report.analysis.runs import Method, accuracies, find_runs, shared_seeds
from assl_lightning.report.labels_needed.regimes import Question, find_regimes
from assl_lightning.report.markdown import render_markdown
from assl_lightning.report.output import write_files
from assl_lightning.report.tidy import tidy_csv
from assl_lightning.report.views import Page, Section, Table
from benchmarks.regimes.rounding import METHODS, REGIME


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and write them with the numbers as CSV; after an error nothing is written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes.rounding_report", description=__doc__)
    parser.add_argument("directories", nargs="+", type=path_argument, help="directories with runs anywhere below them")
    parser.add_argument("--output", metavar="DIR", type=path_argument, required=True, help="where to write")
    options = parser.parse_args(arguments)
    (regime,) = find_regimes(find_runs(options.directories), Question(("random",), by_directory=True))
    methods = regime.setting.methods
    pairs = [
        (methods[name], methods[rule])
        for name in METHODS
        for rule, _, other in [name.partition("+")]
        if other and name in methods and rule in methods
    ]
    of_methods = Table(
        "Test accuracy (%), mean ± s.d. over seeds",
        ("method", "n", "AUBC", "round 0", "last round"),
        tuple(_accuracies(methods[name]) for name in METHODS if name in methods),
    )
    differences = Table(
        "Difference to the same rule in float32, with its 95 % interval",
        ("method", "n", "AUBC", "round 0", "last round", "first picks in common, %"),
        tuple(_differences(method, base) for method, base in pairs),
    )
    page = Page("Other roundings in training", (f"{REGIME}.",), (Section("Accuracies", (of_methods, differences)),))
    tables = render_markdown(page)
    write_files({"tables.md": tables.encode(), "results.csv": tidy_csv([regime.setting]).encode()}, options.output)
    sys.stdout.write(tables)


def _accuracies(method: Method) -> tuple[str, ...]:
    found = accuracies(method, sorted(method.runs))
    columns = aubc(_labels(method), found), found[:, 0], found[:, -1]
    return (method.name, str(len(found)), *(mean_and_deviation(column.tolist()) for column in columns))


def _differences(method: Method, base: Method) -> tuple[str, ...]:
    seeds = shared_seeds(method, base)
    if len(seeds) < 2:
        return (method.name, str(len(seeds)), UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    own, other = accuracies(method, seeds), accuracies(base, seeds)
    labels = _labels(method)
    tests = (
        paired_t(aubc(labels, own) - aubc(labels, other)),
        paired_t(own[:, 0] - other[:, 0]),
        paired_t(own[:, -1] - other[:, -1]),
    )
    shares = [picks_overlap(method.runs[seed].records[0].queried, base.runs[seed].records[0].queried) for seed in seeds]
    columns = (f"{points(one.interval.mean)} {interval(one.interval.low, one.interval.high)}" for one in tests)
    return (method.name, str(len(seeds)), *columns, per_cent(sum(shares) / len(shares)))


def _labels(method: Method) -> list[int]:
    return [record.labels for record in next(iter(method.runs.values())).records]


if __name__ == "__main__":
    sys.exit(main())
