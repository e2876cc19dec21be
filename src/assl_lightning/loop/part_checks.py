"""Checks of the parts that `run_rounds` is given, before the first training, and of the labels of each round."""

from __future__ import annotations

from assl_lightning.base.words import first_few
from assl_lightning.data.pool import HELD_OUT, Pool
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.loop.oracles import Oracle
from assl_lightning.loop.settings import RoundSettings
from assl_lightning.method.candidates import Acquisition


def check_parts(
    pool: Pool,
    datamodule: PoolDataModule,
    acquisition: Acquisition,
    oracle: Oracle,
    settings: RoundSettings,
    *,
    has_begun: bool,
) -> None:
    """Raise for the first part of another kind, and the first setting that contradicts another one or the pool.

    Args:
        has_begun: the run has asked for labels before.
    """
    for name, part, kind, needs in (
        ("acquisition", acquisition, Acquisition, "`requires` and acquire(candidates, budget, generator)"),
        ("oracle", oracle, Oracle, "answer(request)"),
        ("datamodule", datamodule, PoolDataModule, "the pool's images; make a PoolDataModule of them"),
    ):
        if not isinstance(part, kind):
            raise TypeError(f"{name} must be an object with {needs}; got {type(part).__name__}")
    if datamodule.pool is not pool:
        raise ValueError("datamodule and run_rounds must share one pool; they were given two")
    # samples that an oracle excludes were asked for and count; those excluded before the first request do not
    available = pool.num_samples if has_begun else len(pool.unlabelled)
    because = "those without a label" if len(pool.labelled) and not has_begun else ""
    for contradiction in [*settings.find_contradictions(), *settings.find_shortage(available, because=because)]:
        raise ValueError(str(contradiction))
    num_test = len(datamodule.test_images)
    if not (num_test or settings.hold_out):
        raise ValueError(
            "there must be a test set: give the datamodule test images (of a folder, data.source.test_root), or "
            "set hold_out to how many samples are to be drawn from the pool for it"
        )
    if num_test and settings.hold_out:
        raise ValueError(
            f"hold_out must be 0 where the data have a test set, here of {num_test} images; got {settings.hold_out}"
        )
    if not (settings.initial_labels or has_begun or len(pool.labelled)):
        raise ValueError("initial_labels must be at least 1 where no label is known beforehand; got 0")


def check_labels(pool: Pool, hold_out: int) -> None:
    """Raise where there is no label to train on, or none to test with though `hold_out` samples are to be the test."""
    if not len(pool.labelled):
        raise ValueError("no sample has a label to train on; label some of those that were asked for")
    if hold_out and not len(pool.held_out):
        indices = (pool.labelled_in_round == HELD_OUT).nonzero()[:, 0].tolist()
        names = [pool.sample_ids[index] for index in indices]
        raise ValueError(
            f"none of the {len(names)} samples that were held out has a label to test with; label some of "
            f"{first_few(names)}"
        )
