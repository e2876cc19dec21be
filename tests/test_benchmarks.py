"""The benchmark runs, at sizes that tell nothing of speed; nothing here looks at a time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What `python -m benchmarks --quick` wrote: the JSON, read, and the Markdown."""
    output = tmp_path_factory.mktemp("benchmark")
    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--device", "cpu", "--name", "quick", "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads((output / "quick.json").read_text()), (output / "quick.md").read_text()


def test_every_section_gives_figures_and_only_those_of_a_gpu_are_not_measured(
    written: tuple[dict[str, Any], str],
) -> None:
    figures = written[0]["figures"]
    sections = {"step", "augmentation", "callback", "acquisition", "paper_round", "start_up"}
    assert {figure["section"] for figure in figures} == sections
    for figure in figures:
        assert all(math.isfinite(value) and value >= 0 for value in figure["values"]), figure
        assert figure["values"] or figure["section"] in {"callback", "paper_round", "start_up"}, figure


def test_both_files_name_the_machine_and_hold_every_figure(written: tuple[dict[str, Any], str]) -> None:
    data, markdown = written
    assert data["machine"]["packages"]["torch"] in markdown
    assert data["machine"]["processor"] in markdown
    for figure in data["figures"]:
        assert f"| {figure['what']} | {figure['size']} |" in markdown


def test_the_parts_of_a_step_are_all_there(written: tuple[dict[str, Any], str]) -> None:
    parts = {figure["what"] for figure in written[0]["figures"] if figure["section"] == "step"}
    names = {"draw indices", "gather and transfer", "weak augmentation", "strong augmentation", "forward", "backward"}
    names |= {"optimizer", "weight EMA", "score callback", "Lightning's loop and logging"}
    assert {f"part: {name}" for name in names} <= parts
