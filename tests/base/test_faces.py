"""Test the faces of the folders: lazy, complete, and the same for a type checker as at run time."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import assl_lightning
from assl_lightning.base.faces import make_face
from tests.shell import run_python

PACKAGE = Path(assl_lightning.__file__).parent


def shown_to_type_checkers(path: Path) -> dict[str, str]:
    """Name → module of every import under `if TYPE_CHECKING`."""
    blocks = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{node.module}" for node in imports for alias in node.names}


FACES = {
    ".".join(["assl_lightning", *path.parent.relative_to(PACKAGE).parts]): path
    for path in sorted([PACKAGE / "__init__.py", *PACKAGE.glob("*/__init__.py")])
    if shown_to_type_checkers(path)
}


def test_every_folder_with_public_names_has_a_face() -> None:
    folders = (
        "acquisition",
        "augment",
        "config",
        "data",
        "learning",
        "loop",
        "method",
        "networks",
        "observe",
        "people",
        "report",
        "stopping",
    )
    assert list(FACES) == ["assl_lightning", *(f"assl_lightning.{folder}" for folder in folders)]


@pytest.mark.parametrize("package", FACES)
def test_a_face_shows_what_a_type_checker_sees(package: str) -> None:
    face = import_module(package)
    shown = shown_to_type_checkers(FACES[package])
    for name, module in shown.items():
        is_module = (PACKAGE.parent / module.replace(".", "/") / f"{name}.py").exists()
        expected = import_module(f"{module}.{name}") if is_module else getattr(import_module(module), name)
        assert getattr(face, name) is expected, name
    assert {name for name in dir(face) if not name.startswith("__")} == shown.keys()


@pytest.mark.e2e
def test_importing_all_faces_waits_neither_for_torch_nor_for_lightning() -> None:
    code = (
        f"import sys; import {', '.join(FACES)}; print(sorted({{'torch', 'lightning', 'hydra'}} & sys.modules.keys()))"
    )
    assert run_python("-c", code).stdout == "[]\n"


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    get_attribute, _ = make_face("assl_lightning.networks", {"networks.small": ["SmallCNN"], "networks.base": []})
    with pytest.raises(AttributeError, match=r"has no attribute 'SmalCNN'; it offers SmallCNN$"):
        get_attribute("SmalCNN")
