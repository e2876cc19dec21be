"""How an exchange with Label Studio fails, apart from what the standard library has for it."""

from __future__ import annotations

from collections.abc import Iterable


class ExportError(ValueError):
    """An export cannot be taken; `lines` says why, one sentence for each problem, and nothing of it was returned."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


class LabelStudioError(ConnectionError):
    """A server does not do what was asked of it; the message is one sentence, and has no secret in it."""


class UnsureError(LabelStudioError):
    """Nobody knows whether the server did what was asked of it."""
