"""Files of a report: where they go, and the arguments that all reports of several runs take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from assl_lightning.base.atomic import open_atomic
from assl_lightning.base.command_line import Parser
from assl_lightning.base.paths import common_directory, path_argument
from assl_lightning.report.analysis.runs import Run
from assl_lightning.report.html import render_html
from assl_lightning.report.markdown import render_markdown
from assl_lightning.report.views import Page

PAGE, TABLES = "report.html", "tables.md"


def report_parser(command: str, description: str, *, output: str) -> argparse.ArgumentParser:
    """Return the parser of `python -m assl_lightning.COMMAND DIRECTORY …`, with --output and --title.

    Args:
        output: the default directory, in words.
    """
    parser = Parser(prog=f"python -m assl_lightning.{command}", description=description)
    parser.add_argument(
        "directories",
        nargs="+",
        type=path_argument,
        metavar="DIRECTORY",
        help="a run, or a directory with runs anywhere below it",
    )
    parser.add_argument("--output", metavar="DIR", type=path_argument, help=f"where to write; default: {output}")
    parser.add_argument("--title", help="the title of the page and of the curves")
    return parser


def write_report(page: Page, files: Mapping[str, bytes], output: Path) -> None:
    """Write a page as HTML and its tables as Markdown, with other `files`, below `output`; print the tables.

    Raises:
        ValueError: the file system refuses.
    """
    tables = render_markdown(page)
    write_files({**files, TABLES: tables.encode(), PAGE: render_html(page).encode()}, output)
    sys.stdout.write(f"{tables}\nreport: {output / PAGE}\n")


def write_files(files: Mapping[str, bytes], output: Path) -> None:
    """Write name → content below `output`, which is made.

    Raises:
        ValueError: the file system refuses.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with open_atomic(output / name) as file:
                file.write(content)
    except OSError as error:
        raise ValueError(
            f"the report cannot be written to {output} ({error.strerror}); name another directory with --output DIR"
        ) from error


def default_output(runs: Sequence[Run]) -> Path:
    """Return `report/` in the deepest directory that holds all the runs.

    Raises:
        ValueError: this directory is the root of the file system.
    """
    common = common_directory(run.directory for run in runs)
    if common is None:
        raise ValueError(
            "the runs have only the root directory in common; name the directory to write to with --output DIR"
        )
    return common / "report"
