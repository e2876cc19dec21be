"""The ranks of a distributed run: which one writes, and where they wait for each other."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from torch import Tensor

from assl_lightning.base.interruption import OtherRankError
from assl_lightning.base.words import one_line, with_kind

Made = TypeVar("Made")

LOST_RESULTS = "the statistics that training keeps would not come back from them"


def is_first_rank() -> bool:
    """True if this process is the rank that writes files."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)


def wait_for_all_ranks() -> None:
    """Wait until all ranks are here: what the first one has written is then there for the others to read."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        has_gpus = torch.distributed.get_backend() == "nccl"  # which would guess the device from the rank
        torch.distributed.barrier(device_ids=[torch.cuda.current_device()] if has_gpus else None)


def open_host_group() -> Any:
    """Return a process group of all ranks that works on the CPU, so that they agree without waiting for a device.

    All ranks must call it at the same time, the first time. Where the group of all ranks works on the CPU, it is that
    one.
    """
    everybody = torch.distributed.group.WORLD
    if torch.distributed.get_backend() == "gloo":
        return everybody
    if everybody not in _host_groups:
        _host_groups[everybody] = torch.distributed.new_group(backend="gloo")
    return _host_groups[everybody]


_host_groups: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # by the group of all ranks


def ranks() -> tuple[int, int]:
    """Return the number of processes of this run, and the number of this one; 1 and 0 before they have met."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1, 0
    return torch.distributed.get_world_size(), torch.distributed.get_rank()


@contextmanager
def in_all_ranks() -> Iterator[None]:
    """Leave the block when all ranks have: each does a part of one work there, and an error in one ends all.

    Raises:
        ValueError: in the first rank, if another one raised; the message is that of the first error.
        OtherRankError: in the other ranks, if they have not raised themselves.
    """
    try:
        yield
    except Exception as error:  # a signal ends this process at once, and the others notice
        _errors_of_all(one_line(error) if isinstance(error, (ValueError, OSError)) else with_kind(error))
        raise
    first = next((error for error in _errors_of_all(None) if error is not None), None)
    if first is not None:
        is_first = ranks()[1] == 0
        raise ValueError(first) if is_first else OtherRankError(f"another process ended with an error ({first})")


def _errors_of_all(mine: str | None) -> list[str | None]:
    count, _ = ranks()
    found = [mine] * count
    if count > 1:
        torch.distributed.all_gather_object(found, mine, group=open_host_group())
    return found


def gather_parts(mine: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """Return one tensor of parts that ranks share: part p is of rank p modulo the number of ranks.

    Args:
        mine: the parts of this rank, (size, …) each, of 4 or 8 bytes a number; at least one.
        sizes: of all parts.
    """
    count, rank = ranks()
    if count == 1:
        return torch.cat(list(mine))
    whole = mine[0].new_zeros(sum(sizes), *mine[0].shape[1:])
    for part, place in zip(mine, whole.split(list(sizes))[rank::count], strict=True):
        place.copy_(part)
    bits = whole.view(torch.int32 if whole.element_size() == 4 else torch.int64)
    torch.distributed.all_reduce(bits)  # of whole numbers, to which the others add 0
    return whole


def from_first_rank(make: Callable[[], Made]) -> Made:
    """Call `make` in the first rank only, and return its result in all ranks.

    Raises:
        OtherRankError: in the other ranks, if `make` raised in the first.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return make()
    made: list[Any] = [None, None]
    try:
        if is_first_rank():
            made = [make(), None]
    except Exception as error:
        made = [None, f"{type(error).__name__}: {error}"]
        raise
    finally:  # the other ranks wait for this, also after an error
        torch.distributed.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise OtherRankError(f"the first process ended with an error, which it prints ({made[1]})")
    return cast(Made, made[0])


def check_that_results_return(trainer: Trainer) -> None:
    """Raise if Lightning forks or spawns processes for the training: their statistics would be lost when they end.

    Raises:
        ValueError: the strategy is ddp_spawn, ddp_fork, ddp_notebook or the like; "auto" chooses ddp_notebook in a
            notebook on a machine with several GPUs.
    """
    start = getattr(getattr(trainer.strategy, "launcher", None), "_start_method", None)
    if start is not None:
        raise ValueError(
            f"the trainer's strategy starts its processes by {start}, and {LOST_RESULTS}; use strategy='ddp' in a "
            f"script, or devices=1"
        )


def open_process_group(make_trainer: Callable[..., Trainer]) -> None:
    """Open the group of processes that torchrun or srun has started, before the first fit would do so.

    Processes that Lightning itself starts do not need this: they begin during the first fit of the first rank, when all
    files of that round are written.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return
    if not any(int(os.environ.get(name) or 1) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS")):
        return
    with tempfile.TemporaryDirectory() as directory:
        trainer = make_trainer(max_epochs=1, default_root_dir=directory, logger=False)
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.world_size > 1 and environment is not None and not isinstance(environment, LightningEnvironment):
        trainer.strategy.setup_environment()
