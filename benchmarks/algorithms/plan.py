"""`python -m benchmarks.algorithms.plan`: what is left to run of results/algorithms/PROTOCOL.md, in its order.

A line is a command for a shell: a sweep over the seeds of one algorithm in one regime. Runs that are complete are left
out, so that what was stopped goes on. A run is one training on labels that were drawn at random: with the same seed
those of a smaller budget are among those of a larger one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from assl_lightning.base.command_line import as_command
from benchmarks.planning import Stage, Sweep, confirmation, print_plan

RUNS = Path("runs/results/algorithms")

AT_RANDOM = ("acquisition=random", "initial_acquisition=random", "warm_up=none", "rounds=0")
STEPS = "steps_per_round=300"  # half of the default run's, for the time

REGIMES = {
    **{f"digits_{labels}": ("data=digits", f"initial_labels={10 * labels}") for labels in (1, 2, 4, 10)},
    "digits_tail20": ("data=digits", "data.imbalance_factor=20", "initial_labels=40"),
    **{f"fashion_{labels}": ("data=fashion_small", f"initial_labels={10 * labels}") for labels in (1, 2, 4, 10)},
}
"""Name → its data and labels: DATA_L has ten classes with L labels each in the mean."""

SUPERVISED = ("+variant=supervised", "algorithm.batch_size=32", "algorithm.weight_ema=0.98")
"""The labelled images alone, with the labelled batch, steps and averaging of the others."""

SWITCHES = {
    "balanced": "algorithm.module.balanced_head=true",
    "teacher": "algorithm.module.teacher=ema",
    "untargeted": "algorithm.module.target=none",
}
"""Second part of a method's name → what it sets."""


def make_sweep(regime: str, method: str, seeds: range) -> Sweep:
    """Make the sweep of a method, ALGORITHM or ALGORITHM+SWITCH, in a regime."""
    algorithm, *switches = method.split("+")
    learner = SUPERVISED if algorithm == "supervised" else (f"algorithm={algorithm}_small",)
    switched = tuple(SWITCHES[switch] for switch in switches)
    return Sweep(regime, method, seeds, (f"name={regime}", *REGIMES[regime], *AT_RANDOM, STEPS, *learner, *switched))


def _sweeps(regimes: Sequence[str], methods: Sequence[str], seeds: range) -> tuple[Sweep, ...]:
    """Regime by regime, so that those that are done can be compared."""
    return tuple(make_sweep(regime, method, seeds) for regime in regimes for method in methods)


LEARNERS = ("fixmatch", "softmatch", "freematch", "flexmatch", "adamatch")
PLAIN = ("supervised", *LEARNERS)
IN_A_TAIL = (*PLAIN, *(f"{name}+balanced" for name in LEARNERS), "softmatch+untargeted", "adamatch+untargeted")

TAIL = ("digits_tail20",)
BUDGETS = tuple(name for name in REGIMES if name.startswith("digits_") and name not in TAIL)
FASHION = tuple(name for name in REGIMES if name.startswith("fashion_"))

STAGES = (
    Stage("digits", _sweeps(BUDGETS, PLAIN, confirmation(0, 10))),
    Stage("long tail", _sweeps(TAIL, IN_A_TAIL, confirmation(0, 10))),
    Stage(
        "more seeds", (*_sweeps(BUDGETS, PLAIN, confirmation(10, 20)), *_sweeps(TAIL, IN_A_TAIL, confirmation(10, 20)))
    ),
    Stage("fashion", _sweeps(FASHION, PLAIN, confirmation(0, 5))),
    Stage(
        "uda and the teacher",
        (
            *_sweeps(BUDGETS, ("uda", "fixmatch+teacher"), confirmation(0, 20)),
            *_sweeps(TAIL, ("uda", "uda+balanced"), confirmation(0, 20)),
            *_sweeps(FASHION, ("uda",), confirmation(0, 5)),
        ),
    ),
)
"""In this order: what is done when time runs out is worth something."""


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, or with --count the number of runs of each stage."""
    print_plan(STAGES, RUNS, prog="python -m benchmarks.algorithms.plan", description=__doc__, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
