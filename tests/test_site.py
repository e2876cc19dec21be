"""What the site adds to MkDocs. `make docs` itself asks that every page is listed and every link leads somewhere."""

from __future__ import annotations

import ast
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="of the extra docs")

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/assl_lightning"
FACES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py") if "make_face(" in path.read_text())


def on_site(markdown: str, source: str) -> str:
    hook: Any = run_path(str(ROOT / "docs/hooks/repository_files.py"))["on_page_markdown"]
    text: str = hook(markdown, page=SimpleNamespace(file=SimpleNamespace(src_uri=source)), config=None, files=None)
    return text


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("a.md", "b.md#part", "b.md#part"),
        ("a.md", "#part", "#part"),
        ("a.md", "https://example.org/b.md", "https://example.org/b.md"),
        ("a.md", "../examples/b.py", "repository/examples/b.py.md"),
        ("a.md", "../results/README.md", "repository/results/README.md"),
        ("a.md", "gallery/b.ipynb", "gallery/b.md"),
        ("gallery/a.md", "../../conf/config.yaml", "../repository/conf/config.yaml.md"),
        ("repository/results/README.md", "digits/curves.png", "digits/curves.png"),
        ("repository/results/README.md", "../docs/sweeps.md", "../../sweeps.md"),
        ("repository/LICENSE.md", "docs/figures/digits.png", "../figures/digits.png"),
    ],
)
def test_a_link_of_the_repository_leads_to_the_same_file_on_the_site(source: str, link: str, expected: str) -> None:
    assert on_site(f"see [it\nthere]({link}), not `[x]({link})`", source) == (
        f"see [it\nthere]({expected}), not `[x]({link})`"
    )


def test_the_parts_of_a_list_are_indented_by_four_and_code_stays() -> None:
    text = "* one\n  two\n  * three `a`\n    four\n\n```\n  code [x](../a.py)\n```\n"
    assert on_site(text, "a.md") == "* one\n    two\n    * three `a`\n        four\n\n```\n  code [x](../a.py)\n```\n"


@pytest.mark.parametrize("package", FACES)
def test_a_package_with_public_names_has_its_page(package: str) -> None:
    assert f"::: assl_lightning.{package}\n" in (ROOT / f"docs/api/{package}.md").read_text()
    assert f"- {package}: api/{package}.md" in (ROOT / "mkdocs.yml").read_text()


def public_names(init: Path) -> set[str]:
    imports = [node for node in ast.walk(ast.parse(init.read_text())) if isinstance(node, ast.ImportFrom)]
    return {name.name for node in imports for name in node.names if name.asname == name.name}


@pytest.fixture(scope="module")
def documented() -> Any:
    griffe = pytest.importorskip("griffe", reason="of the extra docs")
    extensions = griffe.load_extensions(str(ROOT / "docs/hooks/docstrings.py"))
    return griffe.load("assl_lightning", search_paths=[str(ROOT / "src")], extensions=extensions)


@pytest.mark.parametrize("package", FACES)
def test_every_public_name_of_a_package_is_on_its_page(documented: Any, package: str) -> None:
    names = public_names(PACKAGE / package / "__init__.py")
    modules = {name for name in names if (PACKAGE / package / f"{name}.py").exists()}
    assert set(documented[package].exports) == names - modules
    page = (ROOT / f"docs/api/{package}.md").read_text()
    assert all(f"::: assl_lightning.{package}.{name}\n" in page for name in modules)


def test_examples_and_comments_of_fields_are_shown(documented: Any) -> None:
    candidates = documented["method.candidates.Candidates"]
    assert candidates["index"].docstring.value == "(M,) int64 pool indices, distinct, in any order"
    assert "```pycon\n>>> Candidates(" in candidates["require"].docstring.value
