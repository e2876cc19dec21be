"""What a directory holds, byte for byte, and a pickle that gives itself away when it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MADE = "made-by-a-file"
"""The file that `Trap` makes in the working directory."""


class Trap:
    """Unpickled by Python's own unpickler, it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({MADE!r}, 'w').close()",)


def contents(root: Path) -> dict[str, bytes | None]:
    """Path below `root` → its bytes, None of a directory; locks are left out."""
    paths = (path for path in root.rglob("*") if path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in paths}


@contextmanager
def refused(root: Path, *words: str) -> Iterator[None]:
    """What is done here ends in an error that says `words`, and changes nothing below `root`; no `Trap` springs."""
    before = contents(root)
    with pytest.raises((ValueError, OSError, RuntimeError)) as caught:
        yield
    message = str(caught.value)
    assert not isinstance(caught.value, (RecursionError, NotImplementedError)), caught.value
    assert [word for word in words if word not in message] == [], message
    assert contents(root) == before
    assert not Path(MADE).exists()


def problem_of(read: Callable[[], object]) -> str | None:
    """What the ValueError says that `read` ends in; None where it reads something."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return None


def error_lines(text: str) -> list[str]:
    """The lines that a command wrote to stderr, each of which must be an error's."""
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith("error: ")] == []
    return lines
