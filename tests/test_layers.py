"""Imports go down the layers of docs/architecture.md, or sideways without a cycle; never up."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import assl_lightning

PACKAGE = Path(assl_lightning.__file__).parent

LAYERS: dict[str, int] = {
    **dict.fromkeys(
        (
            "atomic",
            "commands",
            "messages",
            "run_files",
            "contracts",
            "copies",
            "differences",
            "environment",
            "extras",
            "heartbeat",
            "interruption",
            "moving",
            "output",
            "paths",
            "plain_numbers",
            "seeding",
            "tensor_files",
            "version",
        ),
        0,
    ),
    **dict.fromkeys(("cells", "suggestions"), 0),
    **dict.fromkeys(("acquisition", "augment", "data", "inference", "networks", "oracles", "people", "records"), 1),
    **dict.fromkeys(("contact_sheet", "histograms", "labelling", "sample_features", "scores", "statistics"), 1),
    **dict.fromkeys(
        ("accelerators", "algorithms", "run_directory", "callbacks", "datamodule", "processes", "slurm"), 2
    ),
    **dict.fromkeys(("analysis", "querying", "report", "round_settings", "rounds", "training"), 3),
    **dict.fromkeys(("__main__", "build", "check", "cli", "composing", "ingest", "jobs", "label", "launching"), 4),
    **dict.fromkeys(("classifier", "run_status", "schema", "status", "sweep_table", "sweeping", "waiting"), 4),
    **dict.fromkeys(("class_list", "classes"), 4),
    **{"hydra_keys": 4, "refusals": 4, "trying": 4},
    **{"locking": 0, "run_classes": 1},
    **{"running": 4, "yaml_numbers": 4},
}
"""The room (first part of a module's name) → its layer."""

LOWEST_LAYER = {"lightning": 2, "pytorch_lightning": 2, "hydra": 4}
"""A library → the lowest layer that may know it."""

ONLY_ROOM = {"matplotlib": "report", "starlette": "labelling", "uvicorn": "labelling"}
"""A library → the one room that may know it."""


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
    """What is wrong with the imports of `modules`, name → source."""
    wrong = []
    graph = {}
    for name, source in modules.items():
        room = name.partition(".")[0]
        own, libraries = imports_of(source, frozenset(modules))
        graph[name] = {other for other in own if LAYERS[other.partition(".")[0]] == LAYERS[room]} - {name}
        wrong += [f"{name} imports {other}" for other in sorted(own) if LAYERS[other.partition(".")[0]] > LAYERS[room]]
        wrong += [
            f"{name} imports {library}"
            for library in sorted(libraries)
            if LAYERS[room] < LOWEST_LAYER.get(library, 0) or ONLY_ROOM.get(library, room) != room
        ]
    TopologicalSorter(graph).prepare()  # raises CycleError, which lists the modules of a cycle
    return wrong


def test_every_module_has_a_layer() -> None:
    assert {name.partition(".")[0] for name in module_names()} <= LAYERS.keys()


def test_imports_go_down_or_sideways_without_a_cycle() -> None:
    assert violations({name: path.read_text() for name, path in module_names().items()}) == []


@pytest.mark.parametrize(
    ("name", "source", "violation"),
    [
        ("scores", "from assl_lightning.rounds import run_rounds", "scores imports rounds"),
        ("statistics", "def f():\n    import lightning.pytorch", "statistics imports lightning"),
        ("rounds", "from hydra.utils import instantiate", "rounds imports hydra"),
        ("querying.figures", "import matplotlib.pyplot as plt", "querying.figures imports matplotlib"),
    ],
)
def test_an_import_that_goes_up_is_found(name: str, source: str, violation: str) -> None:
    assert violations({name: source, "rounds": source if name == "rounds" else ""}) == [violation]
