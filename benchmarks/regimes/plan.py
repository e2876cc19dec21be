"""`python -m benchmarks.regimes.plan`: what is left to run of results/fewer_labels/PROTOCOL.md, in its order.

A line is a command for a shell: a sweep over the seeds of one method in one regime. Runs that are complete are left
out, so that what was stopped goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from assl_lightning.base.command_line import as_command
from benchmarks.planning import Stage, Sweep, confirmation, print_plan

RUNS = Path("runs/results/fewer_labels")

STARTS = {
    "": ("warm_up=none", "initial_acquisition=random"),
    "pixels": ("warm_up=none", "initial_acquisition=herding", "initial_features=pixels"),
    "warm": ("warm_up=simclr", "initial_acquisition=herding", "initial_features=network"),
}
"""End of a method's name → what chooses its first labels and weights; "": labels at random, weights at random."""


def make_sweep(regime: str, method: str, seeds: range) -> Sweep:
    """Make the sweep of a method, RULE or RULE+START, in an experiment."""
    rule, _, start = method.partition("+")
    return Sweep(regime, method, seeds, (f"+experiment={regime}", f"acquisition={rule}", *STARTS[start]))


def _stage(name: str, regimes: Sequence[str], methods: Sequence[str], seeds: range) -> Stage:
    """Regime by regime, so that those that are done can be compared."""
    return Stage(name, tuple(make_sweep(regime, method, seeds) for regime in regimes for method in methods))


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
    _stage("core", (*CORE, "fashion"), (*FOUR, "random+warm"), confirmation(0, 10)),
    _stage("more regimes", MORE, FOUR, confirmation(0, 10)),
    _stage("more seeds", CORE, FOUR, confirmation(10, 30)),
    _stage(
        "rules and starts",
        ("digits_tail50", "letters"),
        (*OTHERS, *(f"{rule}+warm" for rule in ("margin", *OTHERS)), "herding+pixels", "random+pixels"),
        confirmation(0, 5),
    ),
)
"""In this order: what is done when time runs out is worth something."""


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, or with --count the number of runs of each stage."""
    print_plan(STAGES, RUNS, prog="python -m benchmarks.regimes.plan", description=__doc__, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
