"""`python -m assl_lightning.report DIRECTORY …`: compare methods; needs neither torch nor Lightning."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from assl_lightning.report.comparison import markdown_table, read_methods
from assl_lightning.report.curve import plot_comparison


def main(arguments: list[str] | None = None) -> int:
    """Print the table and draw the curves; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m assl_lightning.report",
        description="Compare methods: test accuracy against labels, mean ± s.d. over seeds.",
    )
    parser.add_argument(
        "directories", nargs="+", type=Path, help="one for each method; its sub-directories are runs, one for each seed"
    )
    parser.add_argument(
        "--against", help="method (a directory's name) that the last column compares with, seed by seed"
    )
    parser.add_argument("--output", type=Path, help="where to draw the curves, such as curves.png")
    parser.add_argument("--title", help="above the curves")
    try:
        table = compare(parser.parse_args(arguments))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{table}\n")
    return 0


def compare(options: argparse.Namespace) -> str:
    """The table; draws the curves where an output was named."""
    methods = read_methods(options.directories)
    if options.against is not None and options.against not in methods:
        raise ValueError(f"--against {options.against}: must be one of the methods, {', '.join(methods)}")
    if options.output is not None:
        curves = {name: list(runs.values()) for name, runs in methods.items()}
        plot_comparison(curves, options.output, options.title)
    return markdown_table(methods, options.against)


if __name__ == "__main__":
    sys.exit(main())
