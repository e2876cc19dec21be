"""Plans of runs for results/: sweeps over seeds, stage by stage, and the commands for what is left of them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assl_lightning.base.command_line import Parser
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG
from assl_lightning.loop.records import complete_records, read_config

CONF = Path("benchmarks/regimes/conf")
FIRST_SEED = 1000  # of confirmation; seeds below 100 are for tuning


def confirmation(first: int, end: int) -> range:
    """Return the seeds of confirmation from number `first` to before `end`."""
    return range(FIRST_SEED + first, FIRST_SEED + end)


@dataclass(frozen=True)
class Sweep:
    """One method in one regime."""

    regime: str
    method: str
    seeds: range
    overrides: tuple[str, ...]  # what the command line says beside the seeds and their directories

    def directory(self, seed: int, runs: Path) -> Path:
        """The directory of a run."""
        return runs / self.regime / self.method / f"seed_{seed}"

    def left(self, runs: Path) -> list[int]:
        """The seeds whose runs are not complete."""
        return [seed for seed in self.seeds if not _is_complete(self.directory(seed, runs))]

    def words(self, seeds: Sequence[int], runs: Path) -> list[str]:
        """What the command line says of the runs with these seeds."""
        return [
            *self.overrides,
            f"seed={','.join(str(seed) for seed in seeds)}",
            f"run_dir={runs / self.regime / self.method}/seed_${{seed}}",
        ]

    def command(self, seeds: Sequence[int], runs: Path) -> str:
        """The command that makes these runs."""
        words = [sys.executable, "-m", "assl_lightning", "--config-dir", str(CONF), "-m", *self.words(seeds, runs)]
        return shlex.join(words)


@dataclass(frozen=True)
class Stage:
    """Sweeps that answer a question together, in their order."""

    name: str
    sweeps: tuple[Sweep, ...]


def print_plan(
    stages: Sequence[Stage], runs: Path, *, prog: str, description: str | None, arguments: Sequence[str] | None
) -> None:
    """Print the commands for the runs that are left, a line each, or with --count how many are left of each stage.

    Args:
        runs: the directory of the runs, if the `arguments` do not name another.
    """
    parser = Parser(prog=prog, description=description)
    parser.add_argument("--runs", type=path_argument, default=runs, help="the directory of the runs")
    parser.add_argument("--stages", type=int, default=len(stages), help="only the first stages, as many as this")
    parser.add_argument("--count", action="store_true", help="count the runs that are left and all runs, of each stage")
    options = parser.parse_args(arguments)
    for stage in stages[: options.stages]:
        left = [(sweep, sweep.left(options.runs)) for sweep in stage.sweeps]
        if options.count:
            total = sum(len(sweep.seeds) for sweep, _ in left)
            print(f"{stage.name}: {sum(len(seeds) for _, seeds in left)} of {total} runs left")
        else:
            for sweep, seeds in left:
                if seeds:
                    print(sweep.command(seeds, options.runs))


def _is_complete(directory: Path) -> bool:
    return (directory / CONFIG).exists() and bool(complete_records(directory, int(read_config(directory)["rounds"])))
