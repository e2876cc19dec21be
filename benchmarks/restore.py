"""`python -m benchmarks.restore NAME`: run directories of the results that are in the repository.

The runs themselves are too large to be kept there. From results/NAME/results.csv this makes for each complete run a
directory with the two files that a plan and a report read, so that a protocol goes on where it ended, and its report
has all runs. What a run computes from its data, mean and deviation of the pixels, is computed again: runs that are made
here and runs that follow are of one setting. A directory that exists is left as it is. A directory made here cannot be
gone on with, and has no diagnostics: which samples were queried is not in the table, and stands as 0, 1, 2, … in its
records.
"""

from __future__ import annotations

import csv
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from assl_lightning.base.atomic import write_text
from assl_lightning.base.command_line import Parser, as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG, RECORDS
from assl_lightning.config.compose import compose, conf_dir, with_config_dir
from assl_lightning.config.prepare import fill_from_data, load_source
from assl_lightning.config.schema import Config, left_open
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.learning.accelerators import AUTO
from assl_lightning.loop.records import write_config
from benchmarks.algorithms import plan as algorithms
from benchmarks.planning import CONF, Sweep
from benchmarks.regimes import ablation, rounding
from benchmarks.regimes import plan as regimes

RESULTS = Path("results")
TABLE = "results.csv"
PLANS = {
    "fewer_labels": (regimes.make_sweep, regimes.RUNS),
    "herding_terms": (ablation.make_sweep, ablation.RUNS),
    "algorithms": (algorithms.make_sweep, algorithms.RUNS),
    "rounding": (rounding.make_sweep, rounding.RUNS),
}
"""Name of a protocol → what makes its sweeps, and where its runs are."""

FROM_RESULTS = "restored.txt"
"""File in a directory that was made here."""

_ACCURACIES = ("test_accuracy_ema", "test_accuracy_raw", "test_balanced_accuracy_ema", "test_balanced_accuracy_raw")
_SECONDS = "_seconds"

Row = dict[str, str]


MakeSweep = Callable[[str, str, range], Sweep]
"""Called with a regime, a method, and seeds."""


def restore(results: Path, runs: Path, make_sweep: MakeSweep = regimes.make_sweep) -> int:
    """Make the directories of the complete runs of a table; return how many were made.

    Raises:
        ConfigurationError: a regime or a method of the table is none of the protocol's, or data are missing from which
            a run computes a part of its settings.
    """
    sources: dict[str, PoolSource] = {}
    with results.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    made = 0
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="assl_lightning"):
        for (regime, method, seed), of_run in groupby(rows, lambda row: (row["setting"], row["method"], row["seed"])):
            sweep = make_sweep(regime, method, range(int(seed), int(seed) + 1))
            directory = sweep.directory(int(seed), runs)
            if not (directory / CONFIG).exists():
                overrides = with_config_dir(sweep.words(sweep.seeds, runs), CONF)
                config = _complete(compose(GlobalHydra.instance().hydra, overrides), sources)
                made += _write(directory, config, list(of_run))
    return made


def _complete(config: Config, sources: dict[str, PoolSource]) -> Config:
    """Fill in what only the data tell, and the precision of all these runs; `sources` keeps what was read before."""
    if config.trainer["precision"] == AUTO:
        config = replace(config, trainer={**config.trainer, "precision": "32-true"})
    if not left_open(config):
        return config
    key = json.dumps(config.as_dict()["data"], sort_keys=True)
    if key not in sources:
        sources[key] = load_source(config)
    return fill_from_data(config, sources[key])


def _write(directory: Path, config: Config, rows: Sequence[Row]) -> bool:
    """Write the directory of a run, with config.yaml last; False for a run that lacks rounds in the table."""
    if len(rows) <= config.settings.rounds:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / FROM_RESULTS, f"{__doc__}\n")
    write_text(directory / RECORDS, "".join(f"{json.dumps(_record(row))}\n" for row in rows))
    write_config(directory, config.as_dict())
    return True


def _record(row: Row) -> dict[str, object]:
    numbers = ("round", "labels", "steps", "drawn_at_random")
    shares = (*_ACCURACIES, "coverage", "mask_rate")
    return {
        **{name: int(row[name]) for name in numbers},
        "unlabelled": 0,  # not in the table, and in no report
        **{name: float(row[name]) for name in shares if row.get(name)},
        "queried": list(range(int(row["queried"]))),
        "seconds": {
            name.removesuffix(_SECONDS): float(value)
            for name, value in row.items()
            if name.endswith(_SECONDS) and value
        },
    }


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Make the directories and say how many there are."""
    parser = Parser(prog="python -m benchmarks.restore", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("name", choices=PLANS, metavar="NAME", help=", ".join(PLANS))
    parser.add_argument("--results", type=path_argument, help="the table, if it is another")
    parser.add_argument("--runs", type=path_argument, help="the directory of the runs, if it is another")
    options = parser.parse_args(arguments)
    make_sweep, runs = PLANS[options.name]
    table, runs = options.results or RESULTS / options.name / TABLE, options.runs or runs
    made = restore(table, runs, make_sweep) if table.exists() else 0
    print(f"{made} runs of {shlex.quote(str(table))} in {runs}")


if __name__ == "__main__":
    sys.exit(main())
