"""The error for answers of people that cannot be taken."""

from __future__ import annotations

from assl_lightning.base.problems import ProblemsError


class IngestError(ProblemsError):
    """Raised for labels that cannot be taken; `lines` has a sentence for each problem, and nothing was taken."""
