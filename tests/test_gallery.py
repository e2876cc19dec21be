"""The notebooks of docs/gallery: each runs from start to end, and is saved with what it printed and drew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="of the extra docs")
pytest.importorskip("nbclient", reason="of the extra docs")

from tests import notebooks  # noqa: E402

ROOT = Path(__file__).parents[1]
EXPECTED = {
    "label_your_own": [
        "0 of the 80 images in runs/photos/seed_0/round_00/to_label have an answer",
        "round 1/1: 40 labels, test accuracy 0.",
        "500 images without a label: runs/photos/seed_0/predictions.csv",
    ],
    "add_to_your_trainer": ["with 20 labels: test accuracy", "label these next: [", "with 40 labels: test accuracy"],
    "compare_strategies": [
        "sweep: 6 of 6 jobs done",
        "| herding (n = 2) |",
        "| seed | round | picked | in common % | by chance % | margin, s | herding, s |",
    ],
}


def printed(notebook: Any) -> str:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


def test_every_notebook_has_its_test() -> None:
    assert {path.stem for path in (ROOT / "docs/gallery").glob("*.ipynb")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_notebook_is_saved_with_its_outputs(name: str) -> None:
    path = ROOT / f"docs/gallery/{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert all(words in printed(notebook) for words in EXPECTED[name]), printed(notebook)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert path.stat().st_size < 200_000


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of Jupyter's packages
@pytest.mark.parametrize("name", EXPECTED)
def test_a_notebook_runs(name: str, tmp_path: Path) -> None:
    text = printed(notebooks.run(ROOT / f"docs/gallery/{name}.ipynb", tmp_path))
    text = notebooks.COLOUR.sub("", text)
    assert all(words in text for words in EXPECTED[name]), text
