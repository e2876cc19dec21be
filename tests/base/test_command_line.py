from __future__ import annotations

import errno
import signal
from collections.abc import Callable

import pytest

from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.interruption import Interrupted
from assl_lightning.base.problems import ProblemsError


def raising(error: BaseException) -> Callable[[], int]:
    @as_command
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (ValueError("rounds must be\n at least 0"), 1, "error: rounds must be at least 0\n"),
        (FileNotFoundError(2, "No such file", "a.csv"), 1, "error: [Errno 2] No such file: 'a.csv'\n"),
        (ProblemsError(["a is wrong", "b is wrong"]), 1, "error: a is wrong\nerror: b is wrong\n"),
        (KeyError("labels"), 1, "error: KeyError: 'labels'\n"),
        (RuntimeError(), 1, "error: RuntimeError\n"),
        (ValueError("no class \x1b[2J"), 1, "error: no class \\x1b[2J\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "error: [Errno 28] No space left on device; make room and give the same command again, which goes on from "
            "what was saved\n",
        ),
        (KeyboardInterrupt(), 130, ""),
        (Interrupted(signal.SIGTERM, "step 4 is saved"), 143, "error: terminated; step 4 is saved\n"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, printed: str
) -> None:
    assert raising(error)() == code
    assert capsys.readouterr() == ("", printed)


def test_a_command_without_an_exit_code_of_its_own_succeeds() -> None:
    assert as_command(lambda: None)() == 0
    assert as_command(lambda: 3)() == 3


def test_a_parser_s_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @as_command
    def main() -> None:
        Parser(prog="python -m x").parse_args(["--colour"])

    assert main() == 1
    assert capsys.readouterr().err == "error: unrecognized arguments: --colour; see python -m x --help\n"
