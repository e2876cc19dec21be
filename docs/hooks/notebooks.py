"""Make a page of each notebook in docs/gallery: its text, its code, and the outputs that it was saved with."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PICTURE = "image/png"
TEXT = "text/plain"
DOWNLOAD = '<a href="../{name}.ipynb" download>This page as a notebook</a>'
SHELL = "%%bash\n"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages and their pictures; the notebook itself is copied beside them, to be downloaded."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook.src_uri.removesuffix(".ipynb")
        pictures: list[bytes] = []
        cells = json.loads(notebook.content_string)["cells"]
        title, *parts = [part for cell in cells for part in _parts(cell, Path(page).name, pictures)]
        text = "\n\n".join([title, DOWNLOAD.format(name=Path(page).name), *parts])
        files.append(File.generated(config, f"{page}.md", content=f"{text}\n"))
        for number, picture in enumerate(pictures, start=1):
            files.append(File.generated(config, f"{page}_{number}.png", content=picture))
    return files


def _parts(cell: dict[str, Any], name: str, pictures: list[bytes]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    command = source.removeprefix(SHELL)
    yield f"````{'python' if command == source else 'bash'}\n{command}\n````"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if PICTURE in data:
            pictures.append(base64.b64decode("".join(data[PICTURE])))
            yield f"![output of the cell above]({name}_{len(pictures)}.png)"
        elif text := "".join(output.get("text", data.get(TEXT, ""))).rstrip():
            yield f"````{{.text .output}}\n{text}\n````"
