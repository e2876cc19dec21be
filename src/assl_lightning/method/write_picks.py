"""Picks as a table of CSV, for people who label."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS = ("rank", "index", "name", "score")


def picks_as_csv(
    index: Sequence[int], score: Sequence[float], names: Mapping[int, str], region: Sequence[int] | None = None
) -> str:
    """Return one line for each pick, best first, under the header rank,index,name,score; with a region before score.

    >>> print(picks_as_csv([7, 2], [0.5, 0.25], {7: "a.png"}), end="")
    rank,index,name,score
    1,7,a.png,0.5
    2,2,,0.25
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header: list[str] = list(COLUMNS)
    writer.writerow(header if region is None else [*header[:-1], "region", header[-1]])
    for i, (sample, number) in enumerate(zip(index, score, strict=True)):
        of_image = [] if region is None else [region[i]]
        writer.writerow([i + 1, sample, names.get(sample, ""), *of_image, f"{number:.6g}"])
    return text.getvalue()


def check_target(path: Path) -> None:
    """Make the folder of a file that picks will be written to, so that a training does not end in vain.

    Raises:
        ValueError: no such file can be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"query_to must be a file that can be written; {path} cannot ({error})") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        why = "it is a folder" if path.is_dir() else f"nothing may be written into {path.parent}"
        raise ValueError(f"query_to must be a file that can be written; {path} cannot: {why}")
