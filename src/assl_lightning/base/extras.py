"""Commands that install optional dependencies."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires


def install_command(extra: str) -> str:
    """Return a command that installs the packages of an `extra` of pyproject.toml, from any directory.

    >>> install_command("parquet")
    "pip install 'pyarrow>=15'"
    """
    try:
        needed = requires("assl-lightning") or []
    except PackageNotFoundError:  # the source tree is used without being installed
        needed = []
    name = extra.replace("_", "-")
    split = [requirement.partition("; extra == ") for requirement in needed]
    packages = [package.strip() for package, _, of in split if of.strip("'\"").replace("_", "-") == name]
    if not packages:
        return f"pip install -e '.[{extra}]'"
    return " ".join(["pip install", *(f"'{package}'" for package in packages)])
