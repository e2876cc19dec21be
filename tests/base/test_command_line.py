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
    assert capsys.readouterr().err == "error: --colour: there is no such option; see python -m x --help\n"


@pytest.fixture
def parser() -> Parser:
    """A parser with options of each kind; `tests/commands/test_doors.py` has the lines that users see."""
    parser = Parser(prog="x", for_unknown="write {name}=VALUE")
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--title")
    parser.add_argument("--tilt", type=float)
    parser.add_argument("--count", "-n", type=int)
    return parser


def faults(parser: Parser, *arguments: str) -> tuple[str, ...]:
    """Return the lines of the error, without their end."""
    with pytest.raises(ProblemsError) as caught:
        parser.parse_intermixed_args(arguments)
    assert all(line.endswith("; see x --help") for line in caught.value.lines)
    return tuple(line.removesuffix("; see x --help") for line in caught.value.lines)


def test_every_option_that_does_not_exist_has_a_line(parser: Parser) -> None:
    assert faults(parser, "--titel", "a", "--count", "many", "--size-of-batch=3") == (
        "--titel: there is no such option (did you mean '--title'?)",
        "--size-of-batch: there is no such option; write size_of_batch=VALUE",
    )
    assert faults(parser, "-x", "b") == ("-x: there is no such option; write x=VALUE",)
    assert faults(parser, "--ti", "b") == ("--ti: there is no such option; write ti=VALUE",)  # it begins two options


def test_what_only_looks_like_an_option_is_taken(parser: Parser) -> None:
    options = parser.parse_intermixed_args(["a", "--title=--b", "--tilt", "-1.5", "-n3", "--", "--c"])
    assert (options.paths, options.title, options.tilt, options.count) == (["a", "--c"], "--b", -1.5, 3)


def test_numbers_are_finite_and_whole(parser: Parser) -> None:
    for text in ("nan", "inf", "1,5"):
        assert faults(parser, "--tilt", text) == (f"--tilt: must be a number; got {text!r}",)
    for text in ("1.5", "1e3", ""):
        assert faults(parser, f"--count={text}") == (f"--count/-n: must be a whole number; got {text!r}",)
