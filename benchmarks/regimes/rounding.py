"""`python -m benchmarks.regimes.rounding`: what is left to run of results/rounding/PROTOCOL.md, in its order.

The same runs whose networks round in other ways. A line is a command for a shell, as those of `python -m
benchmarks.regimes.plan`. First labels and weights are drawn at random.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from assl_lightning.base.command_line import as_command
from benchmarks.planning import Stage, Sweep, confirmation, print_plan
from benchmarks.regimes.plan import STARTS

RUNS = Path("runs/results/rounding")
REGIME = "digits_short"

ROUNDINGS = {
    "": ("trainer.precision=32-true",),
    "bf16": ("trainer.precision=bf16-mixed",),
    "contiguous": ("trainer.precision=32-true", "trainer.memory_format=contiguous"),
}
"""End of a method's name → how its network rounds; "": in float32."""


def make_sweep(regime: str, method: str, seeds: range) -> Sweep:
    """Make the sweep of a method, RULE or RULE+ROUNDING, in an experiment."""
    rule, _, rounding = method.partition("+")
    on_cpu = ("trainer.accelerator=cpu",)
    overrides = (f"+experiment={regime}", f"acquisition={rule}", *STARTS[""], *on_cpu, *ROUNDINGS[rounding])
    return Sweep(regime, method, seeds, overrides)


METHODS = ("random", "random+bf16", "herding", "herding+bf16", "herding+contiguous")
STAGES = (Stage("roundings", tuple(make_sweep(REGIME, method, confirmation(30, 40)) for method in METHODS)),)


@as_command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the commands, or with --count the number of runs of each stage."""
    print_plan(STAGES, RUNS, prog="python -m benchmarks.regimes.rounding", description=__doc__, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
