"""How an exchange with Label Studio fails, apart from what the standard library has for it."""

from __future__ import annotations

from assl_lightning.people.errors import IngestError


class ExportError(IngestError):
    """An export cannot be taken."""


class LabelStudioError(ConnectionError):
    """A server does not do what was asked of it; the message is one sentence, and has no secret in it."""


class UnsureError(LabelStudioError):
    """Nobody knows whether the server did what was asked of it."""
