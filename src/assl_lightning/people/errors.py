"""Answers that come from outside, by a file or a labelling tool, before anybody has looked whether they may be true."""

from __future__ import annotations

from collections.abc import Iterable


class IngestError(ValueError):
    """Labels that came back cannot be taken; `lines` says why, one sentence for each problem, and nothing was taken."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = (lines,) if isinstance(lines, str) else tuple(lines)
        super().__init__("\n".join(self.lines))
