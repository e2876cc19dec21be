"""Ctrl-C and a scheduler's signals, as requests that training honours once it is safe to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

READER_GONE = 13
"""SIGPIPE, which Windows lacks: the reader of standard output has gone."""


class OtherRankError(RuntimeError):
    """The first process raised what all processes end with; it alone need be told."""


class Interrupted(BaseException):
    """The process was asked to end by the signal `signum`; the text says what was saved.

    No `Exception`, as `KeyboardInterrupt` is none, so that nobody takes it for an error of a round.
    """

    def __init__(self, signum: int, saved: str = "") -> None:
        self.signum = signum
        self.is_to_be_told = bool(saved) or signum != READER_GONE  # other tools are silent then, if nothing was to save
        self.saved = saved or "the same command goes on from the last checkpoint"
        super().__init__(f"{_WORDS.get(signum, f'ended by signal {signum}')}; {self.saved}")

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, str]]:
        return Interrupted, (self.signum, self.saved)  # a launcher's worker may hand it to the sweep's process

    @property
    def exit_code(self) -> int:
        """As shells count: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.signum


_WORDS = {
    int(signal.SIGINT): "interrupted",
    int(signal.SIGTERM): "terminated",
    READER_GONE: "standard output was closed",
}


class Interruption:
    """Takes over signals while a run lasts: a context manager, in the main thread; elsewhere it does nothing.

    Within `deferred()` the first signal is noted in `signum`, for whoever trains to save what there is and raise
    `Interrupted`; a second Ctrl-C does not wait for that. Outside, a signal raises `Interrupted` at once.

    Args:
        signums: which signals.

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
        """Take the signals, again where somebody else took them meanwhile, as Lightning's Trainer does in a fit."""
        for signum in self._before:
            signal.signal(signum, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Signals wait to be asked for in this block."""
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
            raise Interrupted(signum)  # lost where it meets a __del__, but noted


def request(signum: int) -> bool:
    """Act as if the signal had come, to the innermost `Interruption` that lasts; False where there is none.

    Raises:
        Interrupted: where a signal would raise it. In another thread than the main one it is noted alone.
    """
    if not Interruption._active:
        return False
    interruption = Interruption._active[-1]
    if threading.current_thread() is threading.main_thread():
        interruption._handle(signum, None)
    elif interruption.signum is None:
        interruption.signum = signum
    return True
