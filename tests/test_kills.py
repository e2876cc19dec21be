"""A run that is killed at random instants, again and again, is the same run; results/kills.md has a longer trial."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("options", [[], ["--warm-up"], ["--every-algorithm"]], ids=["cold", "warm", "every algorithm"])
def test_a_run_that_is_killed_again_and_again_ends_as_the_undisturbed_one(tmp_path: Path, options: list[str]) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kills.py")), "--kills", "20", *options]
    ended = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "20 × SIGKILL" in ended.stdout
    assert "pictures): none." in ended.stdout
