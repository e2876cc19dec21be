"""Test that a folder imports only lower ones, by the layers of docs/architecture.md."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import assl_lightning

PACKAGE = Path(assl_lightning.__file__).parent

LAYERS: dict[str, int] = {
    "base": 0,
    **dict.fromkeys(("method", "networks", "augment", "data", "stopping"), 1),
    **dict.fromkeys(("acquisition", "observe", "pytorch_lightning"), 2),
    "learning": 3,
    "loop": 4,
    **dict.fromkeys(("people", "config"), 5),
    "report": 6,
    "commands": 7,
    "check": 8,
    **dict.fromkeys(("__main__", "audit", "classes", "export", "ingest", "label", "predict", "query", "status"), 9),
}
"""The first part of a module's name, which is its folder → its layer; the doors at the root are above all folders, and
`pytorch_lightning` there has the callback once more."""

LOWEST_LAYER = {"lightning": 1, "pytorch_lightning": 1, "hydra": 4}
"""A library → the lowest layer that may import it."""

ONLY_FOLDER = {"matplotlib": "report", "starlette": "people", "uvicorn": "people"}
"""A library → the one folder that may import it."""

EXCEPTIONS = {"base.processes imports lightning"}  # it asks Lightning which process this is


def module_names() -> dict[str, Path]:
    """Dotted name below the package → file; the package's own `__init__` imports lazily and knows every room."""
    files = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    named = {".".join(part for part in parts if part != "__init__"): path for parts, path in files.items()}
    return {name: path for name, path in named.items() if name}


def imports_of(source: str, names: frozenset[str]) -> tuple[set[str], set[str]]:
    """Modules of the package (dotted, below it) and top-level names of libraries that the `source` imports anywhere."""
    own, libraries = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full, from assl_lightning on"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            first, _, rest = target.partition(".")
            if first != "assl_lightning":
                libraries.add(first)
                continue
            while rest and rest not in names:
                rest = rest.rpartition(".")[0]
            own.add(rest)
    return own - {""}, libraries


def violations(modules: dict[str, str]) -> list[str]:
    """Every import of `modules`, name → source, that a layer forbids.

    Raises:
        CycleError: modules of one folder import one another in a circle.
    """
    found = []
    graph = {}
    for name, source in modules.items():
        folder = name.partition(".")[0]
        own, libraries = imports_of(source, frozenset(modules))
        graph[name] = {other for other in own if other.partition(".")[0] == folder} - {name}
        for other in sorted(own):
            target = other.partition(".")[0]
            if target != folder and LAYERS[target] >= LAYERS[folder]:
                found.append(f"{name} imports {other}")
        found += [
            f"{name} imports {library}"
            for library in sorted(libraries)
            if LAYERS[folder] < LOWEST_LAYER.get(library, 0) or ONLY_FOLDER.get(library, folder) != folder
        ]
    TopologicalSorter(graph).prepare()
    return [violation for violation in found if violation not in EXCEPTIONS]


def test_the_root_has_folders_and_doors_alone() -> None:
    assert {name.partition(".")[0] for name in module_names()} == LAYERS.keys()


@pytest.mark.parametrize("door", ["audit", "classes", "export", "ingest", "label", "predict", "query", "status"])
def test_a_door_opens_its_command_and_does_no_more(door: str) -> None:
    code = [line for line in (PACKAGE / f"{door}.py").read_text().splitlines() if line]
    assert code[1:] == [
        f"from assl_lightning.commands.{door} import main",
        'if __name__ == "__main__":',
        "    raise SystemExit(main())",
    ]


def test_a_folder_imports_only_lower_ones() -> None:
    assert violations({name: path.read_text() for name, path in module_names().items()}) == []


@pytest.mark.parametrize(
    ("name", "source", "violation"),
    [
        ("method.scores", "from assl_lightning.loop.rounds import run_rounds", "method.scores imports loop.rounds"),
        ("people.batch", "from assl_lightning.config import schema", "people.batch imports config.schema"),
        ("base.files", "def f():\n    import lightning.pytorch", "base.files imports lightning"),
        ("learning.datamodule", "from hydra.utils import instantiate", "learning.datamodule imports hydra"),
        ("loop.figures", "import matplotlib.pyplot as plt", "loop.figures imports matplotlib"),
    ],
)
def test_an_import_that_goes_up_or_sideways_is_found(name: str, source: str, violation: str) -> None:
    assert violations({"loop.rounds": "", "config.schema": "", name: source}) == [violation]


def test_a_circle_within_a_folder_is_found() -> None:
    sources = {"loop.a": "from assl_lightning.loop import b", "loop.b": "from assl_lightning.loop import a"}
    with pytest.raises(CycleError):
        violations(sources)
