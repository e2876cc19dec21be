"""The error for answers of people that cannot be taken."""

from __future__ import annotations

from collections.abc import Iterable


class IngestError(ValueError):
    """Raised for labels that cannot be taken; `lines` has a sentence for each problem, and nothing was taken."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))
