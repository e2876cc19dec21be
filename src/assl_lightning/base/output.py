"""Standard output that its reader closes early, as in `… | head`.

Other tools end silently then, by SIGPIPE, with exit code 141. Python ignores the signal and raises an error in the
write that fails, so that a command would print a traceback, or a run would fail. Here the failed write is handled like
a signal (`interruption`): a training saves its state at the next step, then the command ends.
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
"""The exit code of a command whose output was closed early, as in shells."""


class ReaderGone(BaseException):
    """Standard output was closed and there is nothing to save. It is no `Exception`, since it is no error."""


@contextmanager
def watched_output() -> Iterator[Watched]:
    """Watch standard output for failed writes in this block, and ignore failed writes to standard error."""
    before = sys.stdout, sys.stderr
    output, errors = Watched(before[0], is_needed=True), Watched(before[1], is_needed=False)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
    finally:
        sys.stdout, sys.stderr = before
        for stream in (output, errors):
            stream.close_devnull()


class Watched:
    """A stream that writes nothing more after a write has failed.

    Args:
        stream: the stream to write to; None, if it was closed before Python began, discards everything.
        is_needed: a failed write asks the command to end.
    """

    def __init__(self, stream: TextIO | None, *, is_needed: bool) -> None:
        self._stream = stream
        self._is_needed = is_needed
        self._nowhere: TextIO | None = None  # a stream to os.devnull, in place of a missing one
        self.error: OSError | None = None

    @property
    def is_closed(self) -> bool:
        """True if the reader has closed the stream."""
        return self.error is not None and self.error.errno == errno.EPIPE

    def write(self, text: str) -> int:
        """Write `text`."""
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
        """Write the buffer."""
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._fail(error)

    def print_failure(self) -> None:
        """Print on standard error why a write failed, unless the reader has closed the stream."""
        if self.error is not None and not self.is_closed:
            sys.stderr.write(f"error: standard output cannot be written ({self.error.strerror or self.error})\n")

    def close_devnull(self) -> None:
        """Close the stream that replaces a missing one."""
        if self._nowhere is not None:
            self._nowhere.close()
            self._stream = self._nowhere = None

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            self._stream = self._nowhere = Path(os.devnull).open("w")  # noqa: SIM115  # until `close_devnull`
        return getattr(self._stream, name)

    def _fail(self, error: OSError) -> None:
        self.error = error
        with suppress(OSError, ValueError, AttributeError):  # the buffer is discarded when the process ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        if self._is_needed and not request(READER_GONE):
            raise ReaderGone
