"""The part that all commands share: errors as lines, exit codes, and an output that is closed early."""

from __future__ import annotations

import argparse
import errno
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn, ParamSpec

from assl_lightning.base.interruption import Interrupted
from assl_lightning.base.output import READER_GONE_CODE, ReaderGone, watched_output
from assl_lightning.base.problems import ProblemsError
from assl_lightning.base.words import one_line, printable, with_kind

SHOW_TRACEBACK = ("ASSL_LIGHTNING_TRACEBACK", "HYDRA_FULL_ERROR")
"""Environment variables that, set to 1, add a traceback to the line of an error."""

_CTRL_C = 130  # 128 + SIGINT, as shells count
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Parameters = ParamSpec("Parameters")


def as_command(main: Callable[Parameters, int | None]) -> Callable[Parameters, int]:
    """Run `main` as a command: an error becomes a line on standard error, and the result is the exit code.

    The exit code is that of `main` (None means 0), 1 after an error, and 128 + the number of a signal: 130 after
    Ctrl-C. If standard output is closed early, as by `| head`, the command ends silently with 141; if it cannot be
    written for another reason, such as a full disk, that is an error. Letters that the terminal's encoding lacks are
    written as escapes.
    """

    @functools.wraps(main)
    def command(*arguments: Parameters.args, **keywords: Parameters.kwargs) -> int:
        if reconfigure := getattr(sys.stdout, "reconfigure", None):
            reconfigure(errors="backslashreplace")
        with watched_output() as output:
            exit_code = 1
            try:
                try:
                    exit_code = _exit_code(functools.partial(main, *arguments, **keywords))
                finally:
                    sys.stdout.flush()
            except (ReaderGone, SystemExit):
                if output.error is None:
                    raise
            output.print_failure()
            if output.error is None:
                return exit_code
            return READER_GONE_CODE if output.is_closed else exit_code or 1

    return command


def _exit_code(main: Callable[[], int | None]) -> int:
    try:
        return main() or 0
    except KeyboardInterrupt:
        return _CTRL_C
    except Interrupted as interrupted:
        if interrupted.is_to_be_printed:
            print_errors([str(interrupted)])
        return interrupted.exit_code
    except Exception as error:
        print_errors(lines_of(error))
        return 1


def lines_of(error: Exception) -> tuple[str, ...]:
    """Return the lines of an error that has several, else its `line_of`."""
    return error.lines if isinstance(error, ProblemsError) else (line_of(error),)


def line_of(error: Exception) -> str:
    """Return the message of an error as one line; an error that is not meant for users begins with its kind.

    If one of `SHOW_TRACEBACK` is set, print the traceback first.
    """
    if any(os.environ.get(name) == "1" for name in SHOW_TRACEBACK):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return f"{one_line(error)}; make room and give the same command again, which goes on from what was saved"
    return one_line(error) if isinstance(error, (ValueError, OSError)) else with_kind(error)


def print_errors(lines: Iterable[str]) -> None:
    """Write each of `lines` as a line of its own on standard error."""
    for line in lines:
        sys.stderr.write(f"error: {printable(line)}\n")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises its errors instead of printing the usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise `ProblemsError`."""
        raise ProblemsError(f"{message}; see {self.prog} --help")
