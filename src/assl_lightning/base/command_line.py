"""The part that all commands share: errors as lines, exit codes, and an output that is closed early."""

from __future__ import annotations

import argparse
import errno
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, ParamSpec

from assl_lightning.base.argument_types import number, whole_number
from assl_lightning.base.interruption import Interrupted
from assl_lightning.base.output import READER_GONE_CODE, ReaderGone, watched_output
from assl_lightning.base.problems import ProblemsError
from assl_lightning.base.words import closest, counted, first_few, listed, nearest, one_line, printable, with_kind

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
    """An argument parser whose errors are lines: what was expected, what came, and the nearest name that exists.

    It raises them instead of printing the usage and exiting. Options cannot be abbreviated. The types `float` and `int`
    take finite numbers and whole numbers.

    Args:
        for_unknown: what to do instead of giving an option that does not exist; "{name}" stands for the option's name
            without dashes.
        settings: those of `argparse.ArgumentParser`.
    """

    def __init__(self, *, for_unknown: str = "", **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})
        self.register("type", float, number)
        self.register("type", int, whole_number)
        self._for_unknown = for_unknown

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the options; raise `ProblemsError` for those that do not exist, before looking at the others."""
        words = self._with_known_options(args)
        return self._complete(*self.parse_known_args(words, namespace))

    def parse_intermixed_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the options, which may stand between the other arguments; raise `ProblemsError` as `parse_args`."""
        words = self._with_known_options(args)
        return self._complete(*self.parse_known_intermixed_args(words, namespace))

    def error(self, message: str) -> NoReturn:
        """Raise `ProblemsError`."""
        self._refuse([_in_our_words(message)])

    def _with_known_options(self, args: Sequence[str] | None) -> list[str]:
        """Return the arguments, unless one has the form of an option that does not exist.

        argparse would first name what is missing, such as --format where somebody wrote --fromat.
        """
        words = sys.argv[1:] if args is None else list(args)
        options = words[: words.index("--")] if "--" in words else words
        self._check_names([word for word in options if word.startswith("--") or _LIKE_AN_OPTION.match(word)])
        return words

    def _check_names(self, options: Iterable[str]) -> None:
        known = self._option_string_actions
        names = dict.fromkeys(option.partition("=")[0] for option in options)
        unknown = [name for name in names if name not in known and " " not in name]
        if unknown:
            self._refuse([f"{name}: there is no such option{self._instead_of(name)}" for name in unknown])

    def _instead_of(self, name: str) -> str:
        """Return the hint at the option that is begun or misspelt so, or else what to do instead."""
        bare = name.lstrip("-")
        long = [option[2:] for option in self._option_string_actions if option.startswith("--")]
        begun = [option for option in long if option.startswith(bare)]
        if meant := begun[0] if len(begun) == 1 else closest(bare, long, cutoff=0.7):
            return f" (did you mean '--{meant}'?)"
        return f"; {self._for_unknown.format(name=bare.replace('-', '_'))}" if self._for_unknown else ""

    def _complete(self, options: argparse.Namespace, rest: Sequence[str]) -> argparse.Namespace:
        self._check_names([word for word in rest if word.startswith("-")])
        if rest:
            self._refuse([f"{first_few(rest)}: {counted(len(rest), 'argument')} too many"])
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(map(str, action.choices))
            hint = nearest(str(value), known)
            raise argparse.ArgumentError(action, f"must be one of {', '.join(known)}; got {value!r}{hint}")

    def _refuse(self, problems: Iterable[str]) -> NoReturn:
        raise ProblemsError(f"{problem}; see {self.prog} --help" for problem in problems)


_LIKE_AN_OPTION = re.compile(r"-[A-Za-z]{2,}=")
"""The beginning of -name=value, which argparse takes for the option -n with the value ame=value."""

_REQUIRED = "the following arguments are required: "
_IN_OUR_WORDS = (
    (r"^argument ", ""),
    (r": expected one argument$", ": needs a value"),
    (r": expected at least one argument$", ": needs a value, or several"),
    (r": ignored explicit argument (.*)$", r": takes no value; got \1"),
    (r": not allowed with argument (.*)$", r": cannot be given together with \1"),
)
"""What argparse says, and what to say in its place; a sentence that is not here stays as it is."""


def _in_our_words(message: str) -> str:
    if message.startswith(_REQUIRED):
        names = message.removeprefix(_REQUIRED).split(", ")
        return f"{listed(names)} {'is' if len(names) == 1 else 'are'} missing"
    for theirs, ours in _IN_OUR_WORDS:
        message = re.sub(theirs, ours, message)
    return message
