"""Choose the samples to label next from a checkpoint that Lightning wrote in a fit with `ASSLScoreCallback`.

`python -m assl_lightning.query CHECKPOINT --k 100` is for trainings that are configured in YAML, where no code calls
`query` of the callback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assl_lightning.base.argument_types import whole_number_from
from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.paths import check_suffix, path_argument
from assl_lightning.base.tables import read_text
from assl_lightning.method.settings import FURTHER
from assl_lightning.method.write_picks import check_target


@as_command
def main(arguments: list[str] | None = None) -> int:
    """Print the picks as CSV, or write them to a file, and return the exit code."""
    options = _parser().parse_args(arguments)
    names = None if options.names is None else _lines(options.names)
    candidates = None if options.candidates is None else _samples(options.candidates, names)
    labelled = None if options.labelled is None else _samples(options.labelled, names)

    if options.to is not None:
        check_suffix("--to", options.to, ".csv")
        check_target(options.to, "--to")

    from assl_lightning.method.callback import ASSLScoreCallback  # here, so that --help does not wait for torch

    scores = ASSLScoreCallback.from_checkpoint(
        options.checkpoint, name=options.callback, c_u=options.c_u, c_i=options.c_i, names=names
    )
    table = scores.picks_table(
        options.k, candidates, labelled, options.factors, by=options.by, per_image=options.per_image
    )
    if options.to is None:
        sys.stdout.write(table)
    else:
        write_text(options.to, table)
        sys.stdout.write(
            f"{options.to}: {options.k} {'samples' if scores.grid is None else 'regions'} to label, best first\n"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m assl_lightning.query", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "checkpoint", type=path_argument, metavar="CHECKPOINT", help="a checkpoint of a fit with ASSLScoreCallback"
    )
    parser.add_argument("--k", type=whole_number_from(1), default=100, help="how many samples to choose (100)")
    file: dict[str, Any] = {"type": path_argument, "metavar": "FILE"}
    parser.add_argument("--names", **file, help="a name for each sample of the pool, one a line, in the pool's order")
    parser.add_argument(
        "--candidates", **file, help="samples to choose from, an index or a name a line (all that training visited)"
    )
    parser.add_argument(
        "--labelled", **file, help="samples that have a label, an index or a name a line; if the checkpoint has "
        "features, the picks then cover the pool"
    )  # fmt: skip
    parser.add_argument(
        "--factors", choices=["both", "uncertainty", "inconsistency"], help="factors of the score (Eq. 6) to rank by"
    )
    parser.add_argument("--by", choices=FURTHER, help="rank by a further statistic that the callback kept, instead")
    parser.add_argument(
        "--per-image", type=whole_number_from(1), help="at most so many regions of an image (observe.regions)"
    )
    parser.add_argument("--c-u", type=float, default=0.5, help="standard deviations added to the uncertainty (0.5)")
    parser.add_argument("--c-i", type=float, default=2.0, help="standard deviations added to the inconsistency (2)")
    parser.add_argument("--callback", help="the callback's name, where the trainer had several")
    parser.add_argument("--to", **file, help="write the table here, instead of printing it")
    return parser


def _lines(path: Path) -> list[str]:
    text, faults = read_text(path, str(path))
    if faults:
        raise ValueError(faults[0])
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _samples(path: Path, names: Sequence[str] | None) -> Sequence[int] | list[str]:
    """Return the names in a file, or else the pool indices; lines that are all among the `names` are names."""
    lines = [line.strip() for line in _lines(path) if line.strip()]
    if names is not None and set(lines) <= set(names):
        return lines
    return [int(line) for line in lines] if all(line.isdecimal() for line in lines) else lines
