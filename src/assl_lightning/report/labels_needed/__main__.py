"""`python -m assl_lightning.report.labels_needed DIRECTORY …`: rules in regimes, and the labels that they need."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from assl_lightning.base.argument_types import number_above
from assl_lightning.base.command_line import as_command
from assl_lightning.report.analysis.runs import find_runs
from assl_lightning.report.drawing import png, svg
from assl_lightning.report.labels_needed.figures import draw_needed, draw_regimes, shown_methods
from assl_lightning.report.labels_needed.regimes import Question, Regime, find_regimes
from assl_lightning.report.labels_needed.tables import (
    conclusion,
    describe,
    needed_table,
    overview_tables,
    rule_table,
    start_table,
)
from assl_lightning.report.output import default_output, report_parser, write_report
from assl_lightning.report.tidy import tidy_csv
from assl_lightning.report.views import Illustration, Page, Section

DIRECTORY = "labels_needed"
"""Name of the directory that is written into by default, beside `report`, since files have the same names."""


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and write the report; after an error nothing is written."""
    options = _parser().parse_args(arguments)
    question = Question(
        tuple(options.baseline or Question.baselines), options.share / 100, options.margin / 100, options.by_directory
    )
    runs = find_runs(options.directories)
    regimes = find_regimes(runs, question)
    _check_methods("--rule", options.rule, regimes)
    _check_methods("--draw", options.draw, regimes)
    every = shown_methods(regimes, (*options.rule, *question.baselines))
    shown = tuple(name for name in every if name in options.draw) or every
    of_all = "" if len(shown) == len(every) else f" Drawn are {len(shown)} of {len(every)} methods."
    curves, bars = (draw(regimes, shown, options.title) for draw in (draw_regimes, draw_needed))
    illustrations = (
        Illustration(
            svg(curves),
            f"Accuracy against labels in each regime; the tables have numbers.{of_all}",
            "Accuracy against labels.",
            is_wide=True,
        ),
        Illustration(
            svg(bars),
            f"Labels needed as a ratio; the table has the numbers.{of_all}",
            "Labels needed, as a ratio.",
            is_wide=True,
        ),
    )
    incomplete = sum(not run.is_complete for run in runs)
    page = _page(regimes, question, options.rule, options.title or "Labels needed", illustrations, incomplete)
    output = options.output or default_output(runs).with_name(DIRECTORY)
    files = {
        "results.csv": tidy_csv([regime.setting for regime in regimes]).encode(),
        "curves.png": png(curves),
        "labels_needed.png": png(bars),
    }
    write_report(page, files, output)


def _check_methods(option: str, names: Sequence[str], regimes: Sequence[Regime]) -> None:
    """Raise for the first of the names that is no method of any regime."""
    known = dict.fromkeys(name for regime in regimes for name in regime.results)
    for name in names:
        if name not in known:
            raise ValueError(f"{option} {name}: must be one of the methods: {'; '.join(known)}")


def _parser() -> argparse.ArgumentParser:
    parser = report_parser(
        "report.labels_needed",
        "Compare methods in several regimes, the names of the runs: differences to baselines with their tests, and the "
        "labels that each method needs to be as accurate as the first baseline.",
        output=f"{DIRECTORY}/ in the directory that holds all the runs",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        action="append",
        help="a method to compare with, once or more often; default: random",
    )
    parser.add_argument(
        "--rule",
        metavar="NAME",
        action="append",
        default=[],
        help="a method that was named before the runs, once or more often: a section of its own, and first in figures",
    )
    parser.add_argument(
        "--draw",
        metavar="NAME",
        action="append",
        default=[],
        help="a method to draw, once or more often; default: all. The tables have all methods in either case",
    )
    parser.add_argument(
        "--share",
        type=number_above(0, 100),
        default=90.0,
        help="of the baseline's last accuracy that labels are counted for, in per cent",
    )
    parser.add_argument(
        "--margin",
        type=number_above(0, 100),
        default=2.0,
        help="accuracy over the budget that may be lost, in points, above 0",
    )
    parser.add_argument(
        "--by-directory", action="store_true", help="call methods by the directories of their runs, METHOD/seed_0"
    )
    return parser


def _page(
    regimes: Sequence[Regime],
    question: Question,
    rules: Sequence[str],
    title: str,
    illustrations: Sequence[Illustration],
    incomplete: int,
) -> Page:
    left_out = (f"Runs that are not complete, and left out: {incomplete}.",) if incomplete else ()
    lead = (*describe(regimes, question), *left_out, *(conclusion(regimes, name, question) for name in rules))
    of_rules = [
        Section(
            f"Rule: {name}",
            (
                *(rule_table(regimes, name, baseline) for baseline in question.baselines if baseline != name),
                needed_table(regimes, name, question),
            ),
        )
        for name in rules
    ]
    return Page(
        title,
        lead,
        (
            Section("Figures", tuple(illustrations)),
            *of_rules,
            Section("All methods", overview_tables(regimes, question)),
            Section("Rules and starts", tuple(start_table(regime) for regime in regimes)),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
