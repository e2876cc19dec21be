"""A directory that may be read and not written, also where the tests are run by root, who may do both everywhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """A directory that every user can enter; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Refuse to write in `directory`, which is shared; root becomes another user meanwhile."""
    is_root = os.geteuid() == 0
    directory.chmod(0o555)
    if is_root:
        os.setresuid(NOBODY, NOBODY, 0)  # the way back
    try:
        yield
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        directory.chmod(0o755)
