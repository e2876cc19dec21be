"""Whether two run directories hold the same run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assl_lightning.base.run_files import CONFIG, RECORDS, WARM_UP_RECORD
from assl_lightning.loop.records import read_records
from assl_lightning.loop.warm_up_record import read_warm_up

_OF_A_TIME_OR_A_RUN = ("of_fit", "of_tests", "run_id")


def differences_of_runs(one: Path, other: Path) -> Iterator[str]:
    """What is not the same to the last bit: records but for seconds, metrics, weights, statistics, tables, pictures.

    config.yaml is left out: it has the run's own directory and history.
    """
    names = [{path.relative_to(run) for path in run.rglob("*") if path.is_file()} for run in (one, other)]
    yield from (f"{name}: only one run has it" for name in sorted(names[0] ^ names[1]))
    records = [[replace(record, seconds={}) for record in read_records(path)] for path in (one, other)]
    if records[0] != records[1]:
        yield RECORDS
    warm_ups = [record and replace(record, seconds=0) for record in map(read_warm_up, (one, other))]
    if warm_ups[0] != warm_ups[1]:
        yield WARM_UP_RECORD
    for name in sorted(names[0] & names[1]):
        if str(name) in (RECORDS, CONFIG, WARM_UP_RECORD):
            continue
        if name.suffix in (".pt", ".ckpt"):
            yield from (f"{name}: {key}" for key in _different_leaves(one / name, other / name))
        elif (one / name).read_bytes() != (other / name).read_bytes():
            yield str(name)


def _different_leaves(one: Path, other: Path) -> Iterator[str]:
    mine, theirs = (dict(_leaves(torch.load(path, weights_only=True))) for path in (one, other))
    yield from sorted(mine.keys() ^ theirs.keys())
    for key in mine.keys() & theirs.keys():
        value, its = mine[key], theirs[key]
        if not (torch.equal(value, its) if isinstance(value, Tensor) else value == its):
            yield key


def _leaves(state: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a checkpoint by its path, but for times and what tells one run from another."""
    if isinstance(state, (list, tuple)):
        state = dict(enumerate(state))
    if not isinstance(state, dict):
        yield prefix, state
        return
    for key, value in state.items():
        if key not in _OF_A_TIME_OR_A_RUN:
            yield from _leaves(value, f"{prefix}/{key}")
