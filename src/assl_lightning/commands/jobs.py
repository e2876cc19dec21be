"""A job: one run of a validated configuration, whose error is a line, so that it does not end a sweep."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from dataclasses import dataclass
from math import nan
from statistics import fmean

from assl_lightning.base.command_line import line_of, lines_of, print_errors
from assl_lightning.base.interruption import Interrupted, OtherRankError
from assl_lightning.config.reading import read
from assl_lightning.config.schema import Config
from assl_lightning.networks.settings import layout_advice

RUN_IN_CHILD = "ASSL_LIGHTNING_RUN"
"""Environment variable with the resolved configuration as JSON. Lightning starts the processes of the other devices by
repeating the command line; they take the configuration from here instead of composing (and sweeping) again."""


_LETTING_GO = 0.1
"""Seconds in which other threads may run before a process group is closed. PyTorch 2.6 can wait for gloo's threads
while it keeps the interpreter's lock, for ever if one of them needs it to free a tensor of the last collective."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run: its errors, or the mean test accuracy over its rounds."""

    errors: tuple[str, ...] = ()
    mean_accuracy: float = nan


def run_job(config: Config) -> Outcome:
    """Run one configuration and return its result; an error becomes a line, so that the next jobs can run.

    Only `Interrupted` and `KeyboardInterrupt` are raised: after them no further job may run.
    """
    os.environ[RUN_IN_CHILD] = json.dumps(config.as_dict())
    started_here = "LOCAL_RANK" not in os.environ
    try:
        from assl_lightning.commands import messages, running

        messages.set_up_messages()
        records = running.run(config)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning exits where it was interrupted
            raise KeyboardInterrupt from error
        return Outcome((f"the run ended itself with exit code {error.code}",) if error.code else ())
    except OtherRankError:
        return Outcome()  # the first rank has the line and the exit code
    except Exception as error:
        advice = layout_advice(error, config.trainer)
        if advice is not None:
            return Outcome((f"{line_of(error)}; {advice}, in another run_dir",))
        return Outcome((_out_of_memory(error),) if _is_out_of_memory(error) else lines_of(error))
    finally:
        gc.collect()  # Trainers are reference cycles, which would keep networks and images alive
        os.environ.pop(RUN_IN_CHILD, None)
        if started_here:
            _forget_processes()
    return Outcome(mean_accuracy=fmean(record.test_accuracy_ema for record in records) if records else nan)


def _is_out_of_memory(error: Exception) -> bool:
    """Return if a tensor found no room, on a GPU or on the CPU, or a library of CUDA found none for itself."""
    words = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(said in str(error) for said in words)


def _out_of_memory(error: Exception) -> str:
    """Return the line of a run that found no room for a tensor: what to lower."""
    what = ". ".join(line_of(error).split(". ")[:2])  # the rest is about torch's allocator
    return (
        f"{what}; lower algorithm.batch_size or algorithm.mu, or choose trainer.precision=bf16-mixed or a smaller "
        f"network, each in another run_dir; or keep the run as it is, and end other programs that use this memory, or "
        f"give it more devices (trainer.devices=2 change_devices=true)"
    )


def run_in_child() -> int | None:
    """Run the job of a process that Lightning started for another device, and return its exit code; else None."""
    if int(os.environ.get("LOCAL_RANK", "0")) == 0 or RUN_IN_CHILD not in os.environ:
        return None
    try:
        outcome = run_job(read(json.loads(os.environ[RUN_IN_CHILD])))
    except Interrupted:
        return 0  # all ranks stop together; the first one prints it
    print_errors(outcome.errors)
    return 1 if outcome.errors else 0


def _forget_processes() -> None:
    """Close the process group that Lightning opened, so that the next job of a sweep starts its own processes."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        time.sleep(_LETTING_GO)
        distributed.destroy_process_group()
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
