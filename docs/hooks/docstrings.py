"""Read the docstrings as this package writes them, for the pages of docs/api."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from griffe import Alias, Attribute, Docstring, Extension, Module, Object

EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
PACKAGE = "assl_lightning."
INTERNAL = {"make_face"}
COMMENT = re.compile(r"#\s*(?!noqa|type:|fmt:)(.+)$")


class PackageDocstrings(Extension):
    """Show examples as code, a field's comment as its description, and a package's imported names as its own."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Fence the examples: Markdown takes `>>>` for a quotation."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value)

    def on_attribute_instance(self, *, node: ast.AST | Any, attr: Attribute, **kwargs: Any) -> None:
        """Take the comment at the end of a field, which has its shape and range, for its docstring."""
        last = getattr(node, "end_lineno", None)
        if attr.docstring is None and isinstance(node, ast.AnnAssign) and isinstance(attr.filepath, Path) and last:
            comment = COMMENT.search(attr.lines_collection[attr.filepath][last - 1])
            if comment is not None:
                attr.docstring = Docstring(comment[1], lineno=last, parent=attr)

    def on_module_members(self, *, mod: Module, **kwargs: Any) -> None:
        """Let a package without `__all__` export what it imports by the same name (`import X as X`)."""
        if mod.is_init_module and mod.exports is None:
            mod.exports = [
                name
                for name, member in mod.members.items()
                if isinstance(member, Alias) and member.target_path.startswith(PACKAGE) and name not in INTERNAL
            ]
