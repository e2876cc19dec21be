"""Paths that users give, the one place where `~` becomes a home directory; and the directory that paths share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path

PATH_KEYS = frozenset(
    ("run_dir", "root", "test_root", "manifest", "labels", "cache", "path", "debian_dir", "weights", "image_root")
)
"""Last parts of the configuration's keys whose value, if it is a text, is a path."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


def expand(path: str | os.PathLike[str]) -> str:
    """Replace a leading `~` or `~user` by the home directory; return any other path unchanged.

    Variables are left to the shell and to `${oc.env:NAME}`: a path that begins with a variable is refused, because it
    would become a directory of that name. `./~x` and `./$x` mean directories of these very names; they are returned as
    absolute paths, so that a path may be expanded twice.

    Raises:
        ValueError: there is no such user, there is no home directory, or the path begins with a variable.

    >>> expand("~/photos") == str(Path.home() / "photos"), expand("./photos/~"), expand("a~b")
    (True, './photos/~', 'a~b')
    """
    text = os.fspath(path)
    if text.startswith(("./~", "./$")):
        return str(Path.cwd() / text[2:])
    if variable := _VARIABLE.match(text):
        name = variable[1] or variable[2]
        raise ValueError(
            f"{text} begins with a variable, which is not looked up here; let the shell fill it in, or write "
            f"${{oc.env:{name}}}{text[variable.end() :]} in a configuration, or ./{text} for a directory of that name"
        )
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        user = text[1:].partition("/")[0]
        why = f"there is no user {user!r} with one" if user else "this process has none"
        raise ValueError(
            f"{text} begins with a home directory, but {why}; write the whole path, or ./{text} for a directory of "
            f"that name"
        ) from None


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return the result of `expand` as a `Path`."""
    return Path(expand(path))


def common_directory(paths: Iterable[Path]) -> Path | None:
    """Return the deepest directory that holds all paths or is one of them; None if it is the file system's root."""
    common = Path(os.path.commonpath([path.resolve() for path in paths]))
    return None if common == Path(common.anchor) else common


def path_argument(text: str) -> Path:
    """Expand a path of the command line: the `type` of an `argparse` argument."""
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def check_suffix(option: str, path: Path, *suffixes: str) -> None:
    """Raise unless a path ends in one of `suffixes`, so that no image or checkpoint is written over by mistake.

    Raises:
        ValueError: it ends in something else.

    >>> check_suffix("--output", Path("a.png"), ".csv", ".parquet")
    Traceback (most recent call last):
    ValueError: --output a.png: must end in .csv or .parquet, so that no other file is written over
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{option} {path}: must end in {' or '.join(suffixes)}, so that no other file is written over")


def check_file_to_write(option: str, path: Path, *suffixes: str) -> None:
    """Raise unless a file with one of `suffixes` can be written at a path, over such a file that is there.

    Raises:
        ValueError: see `check_suffix`; or it is a directory, its directory is missing, or nothing may be written there.
    """
    check_suffix(option, path, *suffixes)
    if path.is_dir():
        raise ValueError(f"{option} {path}: is a directory; name a file")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no directory {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{option} {path}: nothing may be written into {path.parent}; name another directory")
