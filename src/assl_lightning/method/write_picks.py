"""Picks as a table of CSV, for people who label."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from assl_lightning.base.csv_text import table_as_csv


def picks_as_csv(
    index: Sequence[int], score: Sequence[float], names: Mapping[int, str], region: Sequence[int] | None = None
) -> str:
    """Return one line for each pick, best first, under the header rank,index,name,score; with a region before score.

    >>> print(picks_as_csv([7, 2], [0.5, 0.25], {7: "a.png"}), end="")
    rank,index,name,score
    1,7,a.png,0.5
    2,2,,0.25
    """
    columns: dict[str, Sequence[object]] = {
        "rank": range(1, len(index) + 1),
        "index": index,
        "name": [names.get(sample, "") for sample in index],
        **({} if region is None else {"region": region}),
        "score": [f"{number:.6g}" for number in score],
    }
    return table_as_csv(columns, zip(*columns.values(), strict=True))


def check_target(path: Path, name: str = "query_to") -> None:
    """Make the folder of a file that picks will be written to, before the training.

    Args:
        path: the file.
        name: what named it, for the error.

    Raises:
        ValueError: no such file can be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{name} must be a file that can be written; {path} cannot ({error})") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        why = "it is a folder" if path.is_dir() else f"nothing may be written into {path.parent}"
        raise ValueError(f"{name} must be a file that can be written; {path} cannot: {why}")
