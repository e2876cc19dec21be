"""`python -m benchmarks.regimes.ablation`: what is left to run of results/herding_terms, herding with a term changed.

A line is a command for a shell, as those of `python -m benchmarks.regimes.plan`. All methods that are compared have the
same start, so that only the rule differs; the seeds are below 100, which no claim uses.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from assl_lightning.base.command_line import as_command
from benchmarks.planning import Stage, Sweep, print_plan
from benchmarks.regimes.plan import STARTS

RUNS = Path("runs/results/herding_terms")

REGIMES = ("digits_short", "digits_tail50", "digits_near_copies", "digits_wrong10")

HERDING = ("acquisition=herding",)
RULES = {
    "random": ("acquisition=random",),
    "herding": HERDING,
    "no_weight": (*HERDING, "acquisition.strategy.weight=none"),
    "weight_both": (*HERDING, "acquisition.strategy.weight=both"),
    "weight_margin": (*HERDING, "acquisition.strategy.weight=margin"),
    "audited": (*HERDING, "acquisition.strategy.trust=audited"),
    "copies": (*HERDING, "acquisition.strategy.copies=0.5"),
    "class_quota": (*HERDING, "acquisition.strategy.class_quota=0.5"),
    "random_share": (*HERDING, "acquisition.strategy.random_share=0.2"),
    "features_of_a_pass": (*HERDING, "acquisition.features=inference"),
}
"""Method → its rule: herding as it is by default, and with one term changed."""


AFTER_WARM_UP = ("herding+warm", "no_weight+warm", "features_of_a_pass+warm")


def make_sweep(regime: str, method: str, seeds: range) -> Sweep:
    """Make the sweep of a method, RULE or RULE+START, in an experiment."""
    rule, _, start = method.partition("+")
    return Sweep(regime, method, seeds, (f"+experiment={regime}", *RULES[rule], *STARTS[start]))


STAGES = tuple(
    Stage(name, tuple(make_sweep(regime, method, seeds) for regime in REGIMES for method in methods))
    for name, methods, seeds in (
        ("four seeds", RULES, range(20, 24)),
        ("four more", RULES, range(24, 28)),
        ("after a warm-up", AFTER_WARM_UP, range(20, 28)),
    )
)


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, or with --count the number of runs of each stage."""
    print_plan(STAGES, RUNS, prog="python -m benchmarks.regimes.ablation", description=__doc__, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
