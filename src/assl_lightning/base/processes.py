"""Several processes of one run: which one writes, and where they wait for one another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer

from assl_lightning.base.interruption import OtherRankError

Made = TypeVar("Made")

LOST_RESULTS = "the statistics that training keeps would not come back from them"


def is_first_rank() -> bool:
    """Whether this process is the one that writes."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)


def wait_for_all_ranks() -> None:
    """What the first rank has written is there for the others to read."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def from_first_rank(make: Callable[[], Made]) -> Made:
    """What `make` returns in the first process, in all of them; the others do not call it.

    Raises:
        OtherRankError: in the others, where `make` raised in the first.
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
    finally:  # the others wait for it, whatever it is
        torch.distributed.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise OtherRankError(f"the first process ended with an error, which it tells ({made[1]})")
    return cast(Made, made[0])


def check_that_results_return(trainer: Trainer) -> None:
    """Raise where training happens in processes that Lightning forks or spawns: what they learn is lost with them.

    Raises:
        ValueError: with a strategy such as ddp_spawn, ddp_fork or ddp_notebook; "auto" takes the last one in a notebook
            on a machine that has several GPUs.
    """
    start = getattr(getattr(trainer.strategy, "launcher", None), "_start_method", None)
    if start is not None:
        raise ValueError(
            f"the trainer's strategy starts its processes by {start}, and {LOST_RESULTS}; use strategy='ddp' in a "
            f"script, or devices=1"
        )


def meet_other_processes(make_trainer: Callable[..., Trainer]) -> None:
    """Where somebody else has started several processes (torchrun, srun), open their group before the first fit does.

    Processes that Lightning starts need no such place: they begin while the first one is in its first fit, with all
    files of that round written.
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
