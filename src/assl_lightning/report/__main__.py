"""`python -m assl_lightning.report DIRECTORY …`: compare methods; needs neither torch nor Lightning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from assl_lightning.base.command_line import as_command
from assl_lightning.report.analysis.grouping import group
from assl_lightning.report.analysis.runs import Run, find_runs
from assl_lightning.report.comparing import comparison_page
from assl_lightning.report.drawing import png
from assl_lightning.report.output import default_output, report_parser, write_report
from assl_lightning.report.sections.accuracy import draw_accuracy
from assl_lightning.report.sections.labelling import FILE_NAME as PEOPLE
from assl_lightning.report.sections.labelling import find_labelling, people_csv
from assl_lightning.report.steps import draw_steps, read_accuracies_over_steps, steps_csv, steps_page
from assl_lightning.report.tidy import tidy_csv
from assl_lightning.report.views import Page


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables and write the report; after an error nothing is written."""
    options = _parser().parse_args(arguments)
    runs = find_runs(options.directories)
    output = options.output or default_output(runs)
    page, files = _steps_report(runs, options) if options.steps else _comparison_report(runs, options)
    write_report(page, files, output)


def _parser() -> argparse.ArgumentParser:
    parser = report_parser(
        "report",
        "Compare methods over their shared seeds: write an HTML page, the tables (also printed), curves, the numbers "
        "as CSV, and the answers of people, if there are any.",
        output="report/ in the directory that holds all the runs",
    )
    parser.add_argument(
        "--against",
        metavar="NAME",
        help="the method to compare the others with; default: random, if there is one",
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--settings",
        action="store_true",
        help="compare runs of several data sets, networks, budgets or init: a part for each, and one matrix over all",
    )
    kinds.add_argument(
        "--steps",
        action="store_true",
        help="show accuracy against optimizer steps over all rounds; the numbers of labels may differ",
    )
    return parser


def _comparison_report(runs: Sequence[Run], options: argparse.Namespace) -> tuple[Page, dict[str, bytes]]:
    """Return the page, and name → content of the other files."""
    settings = group(runs, by_setting=options.settings)
    people = find_labelling(settings)
    page = comparison_page(settings, options.against, options.title, people=people)
    names = ["curves.png"] if len(settings) == 1 else [f"curves_{number}.png" for number in range(1, len(settings) + 1)]
    titles = [options.title] if len(settings) == 1 else [setting.name for setting in settings]
    drawn = zip(names, settings, titles, strict=True)
    curves = {name: png(draw_accuracy(setting, title)) for name, setting, title in drawn}
    answers = {PEOPLE: people_csv(people).encode()} if people else {}
    return page, {"results.csv": tidy_csv(settings).encode(), **answers, **curves}


def _steps_report(runs: Sequence[Run], options: argparse.Namespace) -> tuple[Page, dict[str, bytes]]:
    if options.against is not None:
        raise ValueError(
            "--against cannot be used with --steps, which compares all methods with each other; leave one of them out"
        )
    methods = read_accuracies_over_steps(runs)
    page = steps_page(methods, options.title)
    return page, {"steps.csv": steps_csv(methods).encode(), "curves.png": png(draw_steps(methods, options.title))}


if __name__ == "__main__":
    sys.exit(main())
