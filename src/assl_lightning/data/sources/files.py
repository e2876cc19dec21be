"""Check that a data set's files are all there and whole, and fetch them where they are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets.utils import check_integrity


@dataclass(frozen=True)
class DataFile:
    """A file that a data set needs, and the MD5 sum that its publisher gives."""

    path: Path
    md5: str


def obtain_files(name: str, root: Path, files: Sequence[DataFile], fetch: Callable[[], object] | None) -> None:
    """Make sure that every file is there and has its MD5 sum; call `fetch` once, if given, where that is not so.

    Raises:
        FileNotFoundError: a file is missing, and there is no `fetch`.
        RuntimeError: a file has another sum, and there is no `fetch`; or the files are not there after it.
    """
    faults = _describe_faults(files)
    if not faults:
        return
    if fetch is None:
        error = FileNotFoundError if "missing" in faults else RuntimeError
        raise error(
            f"{name} must lie under {root}, whole: {faults}; set download: true to fetch it, or copy the files there"
        )
    try:
        fetch()
    except (OSError, RuntimeError, HTTPException) as problem:
        raise RuntimeError(
            f"{name} could not be downloaded to {root} ({problem}): {faults}; copy the files there from a machine with "
            f"a network, or delete what is damaged and try again"
        ) from problem
    faults = _describe_faults(files)
    if faults:
        raise RuntimeError(f"{name} was downloaded to {root}, and is not whole: {faults}; delete {root} and try again")


def _describe_faults(files: Sequence[DataFile]) -> str:
    """Name the files that are missing or damaged; empty where there are none."""
    missing = [str(file.path) for file in files if not file.path.is_file()]
    damaged = [str(file.path) for file in files if file.path.is_file() and not check_integrity(file.path, file.md5)]
    parts = []
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    if damaged:
        parts.append(f"damaged (their MD5 sum is not the published one): {', '.join(damaged)}")
    return "; ".join(parts)
