"""Standard output whose reader has gone, as in `… | head`: a command ends as other tools do then, and nothing is lost.

Such a tool ends by SIGPIPE, quietly, and a shell counts 141. Python ignores the signal and raises where it writes, so
that a command would end with a traceback, or a run would take it for an error of its own. Here it is treated as any
other signal (`interruption`): a training is saved at its next step before the command ends.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from assl_lightning.base.interruption import READER_GONE, request

READER_GONE_CODE = 128 + READER_GONE
"""The exit code of a command whose output is not read to its end, as shells count."""


class ReaderGone(BaseException):
    """Nothing reads the output any more, and there is nothing to save; no `Exception`, as it is no error."""


@contextmanager
def watched_output() -> Iterator[Watched]:
    """Within, what goes wrong in writing to standard output is noticed, and to standard error is passed over."""
    before = sys.stdout, sys.stderr
    output, errors = Watched(before[0], is_needed=True), Watched(before[1], is_needed=False)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = before
        for stream in (output, errors):
            stream.let_go()


class Watched:
    """A stream that writes nothing more once a write has failed.

    Args:
        stream: to write to; None, as Python has it where the stream was closed before it began, for nowhere.
        is_needed: where a write fails, the command is asked to end.
    """

    def __init__(self, stream: TextIO | None, *, is_needed: bool) -> None:
        self._stream = stream
        self._is_needed = is_needed
        self._nowhere: TextIO | None = None  # what stands for a stream that there is none of
        self.error: OSError | None = None

    @property
    def is_closed(self) -> bool:
        """True where its reader has gone."""
        return self.error is not None and self.error.errno == errno.EPIPE

    def write(self, text: str) -> int:
        """Write `text`, as a stream does."""
        if self._stream is not None and self.error is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._fail(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write all `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what was kept back."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def tell(self) -> None:
        """Say on standard error why nothing could be written, where it is not that the reader has gone."""
        if self.error is not None and not self.is_closed:
            sys.stderr.write(f"error: standard output cannot be written ({self.error.strerror or self.error})\n")

    def let_go(self) -> None:
        """Close what was opened here."""
        if self._nowhere is not None:
            self._nowhere.close()
            self._stream = self._nowhere = None

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            self._stream = self._nowhere = Path(os.devnull).open("w")  # noqa: SIM115  # until `let_go`
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        self.error = error
        with suppress(OSError, ValueError, AttributeError):  # what is kept back goes nowhere when the process ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        if self._is_needed and not request(READER_GONE):
            raise ReaderGone
