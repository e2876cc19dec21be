"""What several commands are asked: to refuse in a line, and to wait for no heavy import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def assert_refused(
    main: Callable[[list[str]], int],
    arguments: Sequence[str],
    line: str,
    directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fail unless a command ends with one line of an error that has `line`, and writes nothing below `directory`."""
    before = sorted(directory.rglob("*"))
    assert main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert sorted(directory.rglob("*")) == before


def assert_imports_nothing_heavy(command: str, *arguments: str) -> None:
    """Fail unless `python -m assl_lightning.COMMAND` succeeds without an import of torch and the like."""
    code = (
        f"import sys; from assl_lightning.{command} import main; failed = main(sys.argv[1:]); "
        "sys.exit(failed or ','.join({'torch', 'lightning', 'hydra', 'numpy', 'PIL'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
