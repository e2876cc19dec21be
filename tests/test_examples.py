"""Every example runs as it stands, in a process of its own, as its first lines say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_python(*arguments: str, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


EXPECTED = {
    "add_to_your_trainer": "label these next: [",
    "custom_observe": "label these next: [",
    "new_acquisition": "picked, best first: [11, 14, 12, 15]",
    "rounds_from_python": "round 2: 60 labels, test accuracy 0.",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_as_it_stands(example: Path, tmp_path: Path) -> None:
    assert EXPECTED[example.stem] in run_python(str(example), cwd=tmp_path)


def test_a_strategy_of_ones_own_runs_from_the_command_line(tmp_path: Path) -> None:
    overrides = [
        "acquisition=random",
        "acquisition.name=balanced",
        "acquisition.strategy._target_=new_acquisition.BalancedEntropy",
        "acquisition.requires=[logits]",
        "rounds=1",
        "steps_per_round=3",
    ]
    run_python("-m", "assl_lightning", *overrides, cwd=tmp_path, PYTHONPATH=str(ROOT / "examples"))
    assert len(list(tmp_path.rglob("queried.csv"))) == 1
