"""Errors of an exchange with Label Studio."""

from __future__ import annotations

from assl_lightning.people.errors import IngestError


class ExportError(IngestError):
    """An export that cannot be read as labels."""


class LabelStudioError(ConnectionError):
    """A server that does not do what was requested; the message is one sentence without secrets."""


class UnsureError(LabelStudioError):
    """A request whose outcome is unknown: the server may have carried it out."""
