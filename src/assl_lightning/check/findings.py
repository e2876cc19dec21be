"""Findings of a check: problems and remarks, a sentence each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["wrong", "remark"]


@dataclass(frozen=True)
class Finding:
    """A problem or a remark; the sentence says what was found, where, and what to do."""

    severity: Severity
    sentence: str


def wrong(sentence: str) -> Finding:
    """Return a problem: the run should not begin with it."""
    return Finding("wrong", sentence)


def remark(sentence: str) -> Finding:
    """Return a remark: the run may begin with it."""
    return Finding("remark", sentence)
