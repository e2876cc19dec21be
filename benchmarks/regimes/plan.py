"""`python -m benchmarks.regimes.plan`: what is left to run of results/fewer_labels/PROTOCOL.md, in its order.

A line is a command for a shell: a sweep over the seeds of one method in one regime. Runs that are complete are left
out, so that what was stopped goes on.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assl_lightning.base.command_line import as_command
from assl_lightning.base.paths import path_argument
from assl_lightning.base.run_files import CONFIG
from assl_lightning.loop.records import complete_records, read_config

CONF = Path("benchmarks/regimes/conf")
RUNS = Path("runs/results/fewer_labels")
FIRST_SEED = 1000  # seeds below 100 were for tuning

STARTS = {
    "": ("warm_up=none", "initial_acquisition=random"),
    "pixels": ("warm_up=none", "initial_acquisition=herding", "initial_features=pixels"),
    "warm": ("warm_up=simclr", "initial_acquisition=herding", "initial_features=network"),
}
"""End of a method's name → what chooses its first labels and weights; "": labels at random, weights at random."""


@dataclass(frozen=True)
class Stage:
    """Methods that are run in regimes, each with the same seeds."""

    name: str
    regimes: tuple[str, ...]
    methods: tuple[str, ...]  # RULE or RULE+START
    seeds: range  # counted from FIRST_SEED

    @property
    def sweeps(self) -> Iterator[Sweep]:
        """Regime by regime, so that those that are done can be compared."""
        return (Sweep(regime, method, self.seeds) for regime in self.regimes for method in self.methods)


@dataclass(frozen=True)
class Sweep:
    """One method in one regime."""

    regime: str
    method: str
    seeds: range

    def directory(self, seed: int, runs: Path) -> Path:
        """The directory of a run."""
        return runs / self.regime / self.method / f"seed_{FIRST_SEED + seed}"

    def left(self, runs: Path) -> list[int]:
        """The seeds whose runs are not complete."""
        return [seed for seed in self.seeds if not _is_complete(self.directory(seed, runs))]

    def overrides(self, seeds: Sequence[int], runs: Path) -> list[str]:
        """What the command line says of the runs with these seeds."""
        rule, _, start = self.method.partition("+")
        return [
            f"+experiment={self.regime}",
            f"acquisition={rule}",
            *STARTS[start],
            f"seed={','.join(str(FIRST_SEED + seed) for seed in seeds)}",
            f"run_dir={runs / self.regime / self.method}/seed_${{seed}}",
        ]

    def command(self, seeds: Sequence[int], runs: Path) -> str:
        """The command that makes these runs."""
        words = [sys.executable, "-m", "assl_lightning", "--config-dir", str(CONF), "-m", *self.overrides(seeds, runs)]
        return shlex.join(words)


FOUR = ("random", "margin", "herding", "herding+warm")
CORE = ("digits_short", "digits_tail50", "digits_near_copies", "digits_wrong10", "digits_wide", "mnist_5k", "letters")
MORE = (
    *("digits_tail20", "digits_wrong20", "mnist_5k_tail20", "mnist_5k_wrong10"),
    *("fashion_tail50", "fashion_near_copies", "fashion_wide"),
)
OTHERS = (
    *("badge", "coreset", "alfa_mix", "alfa_mix_closed", "assl", "assl_div"),
    *("typiclust", "prob_cover", "dcom", "max_herding", "uncertainty_herding"),
)

STAGES = (
    Stage("core", (*CORE, "fashion"), (*FOUR, "random+warm"), range(10)),
    Stage("more regimes", MORE, FOUR, range(10)),
    Stage("more seeds", CORE, FOUR, range(10, 30)),
    Stage(
        "rules and starts",
        ("digits_tail50", "letters"),
        (*OTHERS, *(f"{rule}+warm" for rule in ("margin", *OTHERS)), "herding+pixels", "random+pixels"),
        range(5),
    ),
)
"""In this order: what is done when time runs out is worth something."""


def _is_complete(directory: Path) -> bool:
    return (directory / CONFIG).exists() and bool(complete_records(directory, int(read_config(directory)["rounds"])))


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, or with --count the number of runs of each stage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regimes.plan", description=__doc__)
    parser.add_argument("--runs", type=path_argument, default=RUNS, help="the directory of the runs")
    parser.add_argument("--stages", type=int, default=len(STAGES), help="only the first stages, as many as this")
    parser.add_argument("--count", action="store_true", help="count the runs that are left and all runs, of each stage")
    options = parser.parse_args(arguments)
    for stage in STAGES[: options.stages]:
        left = [(sweep, sweep.left(options.runs)) for sweep in stage.sweeps]
        if options.count:
            total = sum(len(sweep.seeds) for sweep, _ in left)
            print(f"{stage.name}: {sum(len(seeds) for _, seeds in left)} of {total} runs left")
        else:
            for sweep, seeds in left:
                if seeds:
                    print(sweep.command(seeds, options.runs))


if __name__ == "__main__":
    sys.exit(main())
