"""Names of a run's samples in the order of their indices, so that an index stays the same when a pool grows.

`<run_dir>/samples.csv` has a line for each image of the pool, and one for each of the test set. It only grows.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from assl_lightning.base.atomic import write_text
from assl_lightning.base.csv_text import table_as_csv
from assl_lightning.base.run_files import SAMPLES

_HEADER = ["split", "sample_id"]
_SPLITS = ("pool", "test")


@dataclass(frozen=True)
class SampleNames:
    """Sample ids by index: sample i of the pool is `pool[i]`."""

    pool: tuple[str, ...] = ()
    test: tuple[str, ...] = ()  # () where the test set's images have no names


def read_samples(run_dir: Path) -> SampleNames:
    """Read the names that a run has written; none where it has not begun.

    Raises:
        ValueError: the file cannot be read.
    """
    path = run_dir / SAMPLES
    if not path.exists():
        return SampleNames()
    try:
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); restore it or begin anew") from error
    for number, row in enumerate(rows, start=1):
        if (row != _HEADER) if number == 1 else (len(row) != 2 or row[0] not in _SPLITS):
            expected = ",".join(_HEADER) if number == 1 else "pool or test, a comma and a sample's name"
            raise ValueError(
                f"{path}, row {number} must be {expected}; got {','.join(row)!r}. Restore it or begin anew"
            )
    pool, test = (tuple(name for split, name in rows[1:] if split == wanted) for wanted in _SPLITS)
    for names in (pool, test):
        if len(set(names)) != len(names):
            raise ValueError(f"{path} must name each sample once, and names one twice; restore it or begin anew")
    return SampleNames(pool, test)


def write_samples(run_dir: Path, names: SampleNames) -> None:
    """Write the names in one piece."""
    rows = ((split, name) for split, group in zip(_SPLITS, (names.pool, names.test), strict=True) for name in group)
    write_text(run_dir / SAMPLES, table_as_csv(_HEADER, rows, line_end="\r\n"))
