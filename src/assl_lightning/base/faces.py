"""The public names of a folder, imported on first use, so that importing the folder itself is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

Homes = Mapping[str, Sequence[str]]
"""A module, below `assl_lightning` → its names that the folder shows."""


def make_face(package: str, homes: Homes) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a `package` that shows the names in `homes` (PEP 562).

    A name that was imported becomes an attribute of the package. A name may be that of a module, such as `scores`.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get_attribute(name: str) -> object:
        if name not in home_of:
            known = ", ".join(sorted(home_of))
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers {known}")
        module = import_module(f"assl_lightning.{home_of[name]}")
        found = module if home_of[name].rpartition(".")[2] == name else getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    def list_names() -> list[str]:
        return sorted({*home_of, *(name for name in vars(sys.modules[package]) if name.startswith("__"))})

    return get_attribute, list_names
