"""`python -m assl_lightning.status RUN_DIR …`: where runs are, and what to do next; without torch and Lightning."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from assl_lightning.base.command_line import as_command, lines_of, print_errors
from assl_lightning.base.paths import path_argument
from assl_lightning.commands.run_status import Status, read_status
from assl_lightning.commands.waiting import wait_for_answers


def _tell(status: Status) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in status.lines()))
    sys.stdout.flush()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0; got {text}")
    return seconds


@as_command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print where each run is; the exit code, 1 where one of them could not be told."""
    parser = argparse.ArgumentParser(
        prog="python -m assl_lightning.status",
        description="Where runs are: round, labels, accuracy so far, what they wait for, and what to do next.",
        allow_abbrev=False,
    )
    parser.add_argument("run_dirs", nargs="+", type=path_argument, metavar="RUN_DIR", help="the run_dir of a run")
    parser.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=30.0,
        metavar="SECONDS",
        help="come back when enough is answered for the runs to go on, looking every so many seconds (30)",
    )
    options = parser.parse_args(arguments)
    exit_code = 0
    for run_dir in options.run_dirs:
        try:
            if options.wait is None:
                _tell(read_status(run_dir))
            else:
                wait_for_answers(run_dir, options.wait, _tell)
        except (ValueError, OSError) as error:
            print_errors(lines_of(error))
            exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
