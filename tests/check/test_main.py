"""What the check says before its report."""

from __future__ import annotations

import sys

import pytest

from assl_lightning.check.__main__ import _announce


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_is_told_what_takes_a_while(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    _announce()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("reading the data, then training a few steps") is is_terminal
    assert bool(printed.err) is is_terminal
