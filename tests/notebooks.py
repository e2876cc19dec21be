"""Run the notebooks of docs/gallery; as a program, save them with their outputs: `make gallery`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = "━"
"""In each line of a progress bar, which the commands draw as ipykernel tells them that they print to a terminal."""


def run(notebook: Path, directory: Path) -> Any:
    """Run a notebook in `directory` with this interpreter, also for its commands; an error in a cell is raised."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        node = nbformat.read(notebook, as_version=4)
        NotebookClient(node, timeout=600, resources={"metadata": {"path": str(directory)}}).execute()
    finally:
        os.environ["PATH"] = before
    return node


def save(node: Any, path: Path, directory: Path) -> None:
    """Save a notebook with what its cells printed and drew, without messages, progress bars and times."""
    for number, cell in enumerate(node.cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            cell.metadata = {}
            cell.outputs = _tidied(cell.outputs, directory)
    node.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(node, path)


def _tidied(outputs: list[Any], directory: Path) -> list[Any]:
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    lines = COLOUR.sub("", printed).replace(f"{directory}/", "").splitlines(keepends=True)
    text = "".join(line for line in lines if BAR not in line)
    others = [output for output in outputs if output.output_type != "stream"]
    return [*([nbformat.v4.new_output("stream", text=text)] if text.strip() else []), *others]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            save(run(Path(argument), Path(place)), Path(argument), Path(place))
        print(argument)  # noqa: T201
