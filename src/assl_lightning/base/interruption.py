"""Ctrl-C and SIGTERM as requests: training saves its state at the next safe moment, then stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

READER_GONE = 13
"""The number of SIGPIPE, which Windows lacks: standard output was closed by its reader."""


class OtherRankError(RuntimeError):
    """The first rank raised the error; the other ranks end with this one, without printing it."""


class Interrupted(BaseException):
    """The process was asked to end by the signal `signum`; the text says what was saved.

    Like `KeyboardInterrupt` it is no `Exception`, so that code which handles errors of a round lets it pass.
    """

    def __init__(self, signum: int, saved: str = "") -> None:
        self.signum = signum
        self.is_to_be_printed = bool(saved) or signum != READER_GONE  # like other tools, be silent if nothing was saved
        self.saved = saved or "the same command goes on from the last checkpoint"
        super().__init__(f"{_WORDS.get(signum, f'ended by signal {signum}')}; {self.saved}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, str]]:
        return Interrupted, (self.signum, self.saved)  # a launcher's worker may send it to the process of the sweep

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as in shells: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


_WORDS = {
    int(signal.SIGINT): "interrupted",
    int(signal.SIGTERM): "terminated",
    READER_GONE: "standard output was closed",
}


class Interruption:
    """A context manager that handles signals during a run. Outside the main thread it does nothing.

    Within `deferred()` the first signal is only noted in `signum`: the training saves its state and then raises
    `Interrupted`. A second Ctrl-C raises `Interrupted` at once, and so does any signal outside of `deferred()`.

    Args:
        signums: the signals to handle.

    >>> with Interruption() as interruption, interruption.deferred():
    ...     signal.raise_signal(signal.SIGTERM)
    ...     interruption.signum == signal.SIGTERM
    True
    """

    _active: ClassVar[list[Interruption]] = []  # outermost first

    def __init__(self, signums: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)) -> None:
        self.signum: int | None = None
        self._signums = signums
        self._before: dict[int, Any] = {}
        self._is_deferring = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in self._signums}
            self._active.append(self)
            self.install()
        return self

    def __exit__(self, *_: object) -> None:
        if self in self._active:
            self._active.remove(self)
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def install(self) -> None:
        """Set the signal handlers, again if other code has replaced them, as Lightning's Trainer does in a fit."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note signals in this block; see `raise_if_asked`."""
        self._is_deferring = True
        try:
            yield
        finally:
            self._is_deferring = False

    def raise_if_asked(self, saved: str) -> None:
        """Raise `Interrupted` if a signal was noted."""
        if self.signum is not None:
            raise Interrupted(self.signum, saved)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        is_second = self.signum is not None
        self.signum = signum if self.signum is None else self.signum
        if not self._is_deferring or (is_second and signum == signal.SIGINT):
            raise Interrupted(signum)  # inside a __del__ it would be lost, hence `self.signum`


def request(signum: int) -> bool:
    """Act as if a signal had come: hand it to the innermost active `Interruption`; return False if there is none.

    Raises:
        Interrupted: if a signal would raise it now. Outside the main thread the signal is only noted.
    """
    if not Interruption._active:
        return False
    interruption = Interruption._active[-1]
    if threading.current_thread() is threading.main_thread():
        interruption._handle(signum, None)
    elif interruption.signum is None:
        interruption.signum = signum
    return True
