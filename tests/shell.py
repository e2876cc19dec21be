"""Commands in processes of their own, which say what they printed where they end otherwise than they should."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run(
    *command: str | Path,
    code: int = 0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """What `command` printed, once it is known that it ended with the exit code `code`."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, timeout=timeout, check=False, capture_output=True, text=True)
    assert done.returncode == code, (
        f"{shlex.join(words)}\nended with {done.returncode}, not {code}; stdout:\n{done.stdout}\nstderr:\n{done.stderr}"
    )
    return done


def run_python(
    *arguments: str | Path,
    code: int = 0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """As `run`, of the interpreter that runs the tests."""
    return run(sys.executable, *arguments, code=code, cwd=cwd, env=env, timeout=timeout)
