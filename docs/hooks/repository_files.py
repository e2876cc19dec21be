"""Add to the site what its pages link to outside of docs/, so that a link works in the repository and on the site.

`examples/a.py` becomes the page `repository/examples/a.py/`, a Markdown file a page of its own text, and a picture or a
table is copied. MkDocs then checks these links like all others.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

FOLDER = "repository"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)\s#]+)")
CODE = re.compile(r"^(`{3,})[^\n]*\n.*?^\1`*[ \t]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
"""Fenced blocks and spans of code, in which brackets are no links."""
COPIED = (".png", ".svg", ".csv", ".json")
INDENTED = re.compile(r"^((?:  ){1,3})(?=\S|\Z)", re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Follow the links of all pages, and of the Markdown files that they lead to."""
    root = Path(config.config_file_path).parent
    pages = [file for file in files if file.is_documentation_page()]
    while pages:
        page = pages.pop()
        for path in _linked(page.content_string, _path_in_repository(page.src_uri)):
            exists = files.get_file_from_path(_path_on_site(path)) is not None
            if exists or path.startswith(("docs/", "..")) or not (root / path).is_file():
                continue  # MkDocs warns of a link that leads nowhere
            added = _added(root / path, path, config)
            files.append(added)
            if added.is_documentation_page():
                pages.append(added)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the relative links to those of the site, and indent a list's parts by 4, as Python's Markdown does."""
    source = page.file.src_uri
    path = _path_in_repository(source)

    def on_site(link: re.Match[str]) -> str:
        target = _path_on_site(_joined(path, link[1]))
        return posixpath.relpath(target, posixpath.dirname(source) or ".")

    def rewritten(text: str) -> str:
        return INDENTED.sub(r"\1\1", LINK.sub(on_site, text))

    parts, end = [], 0
    for code in CODE.finditer(markdown):
        parts += [rewritten(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, rewritten(markdown[end:])])


def _linked(markdown: str, path: str) -> list[str]:
    """Return the paths, from the repository's root, that the text of the file `path` links to."""
    return [_joined(path, link) for link in LINK.findall(CODE.sub("", markdown))]


def _joined(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _path_in_repository(source: str) -> str:
    beginning = f"{FOLDER}/"
    return source.removeprefix(beginning) if source.startswith(beginning) else f"docs/{source}"


def _path_on_site(path: str) -> str:
    """Return the source path of the page or file that stands for a path from the repository's root."""
    if path.startswith("docs/"):
        page = path.removeprefix("docs/")
        return f"{page.removesuffix('.ipynb')}.md" if page.endswith(".ipynb") else page
    is_itself = path.endswith((".md", *COPIED))
    return f"{FOLDER}/{path}" if is_itself else f"{FOLDER}/{path}.md"


def _added(target: Path, path: str, config: MkDocsConfig) -> File:
    source, level = _path_on_site(path), InclusionLevel.NOT_IN_NAV
    if target.suffix in COPIED:
        return File.generated(config, source, abs_src_path=str(target), inclusion=level)
    text = target.read_text(encoding="utf-8")
    if target.suffix != ".md":
        language = LANGUAGES.get(target.suffix, "text")
        text = f"# {path}\n\n````{language}\n{text.rstrip()}\n````\n"
    return File.generated(config, source, content=UNSEARCHED + text, inclusion=level)
