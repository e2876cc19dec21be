"""The sections on the test images of the last round, each for one run of a method, in the order of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from assl_lightning.base.words import counted
from assl_lightning.report.analysis.evaluations import LastTest
from assl_lightning.report.views import Block, Fold


def describe_test(tested: LastTest) -> str:
    """Name the weights, the round and the number of test images."""
    record = tested.record
    weights = "averaged (EMA) weights" if tested.run.config["algorithm"].get("weight_ema") is not None else "weights"
    images = counted(len(tested.evaluation.label), "test image")
    return f"The {weights} after the training with {record.labels:,} labels, on {images}."


def of_each_method(
    tests: Mapping[str, LastTest], blocks: Callable[[LastTest], tuple[Block, ...]], *, in_folds: bool
) -> tuple[Block, ...]:
    """Return the blocks of each method `in_folds`, or those of the only method; () if there are none."""
    found = {name: made for name, tested in tests.items() if (made := blocks(tested))}
    if not in_folds:
        return next(iter(found.values()), ())
    return tuple(Fold(f"{name}, seed {tests[name].run.seed}", made) for name, made in found.items())
