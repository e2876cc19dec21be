"""Bring a callback's state back from processes that Lightning starts for a fit and ends after it.

With ddp_spawn, ddp_fork and ddp_notebook the fit runs in other processes, in copies of the callback. Lightning brings
the weights back by a temporary file; so does this.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import weakref
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from assl_lightning.base.atomic import open_atomic


def _remove(directory: Path, process: int) -> None:
    """Remove what was never taken, at the end of the process that it was meant for."""
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)


class StateCarrier:
    """A place where a started process leaves the state for the one that it was started from, on the same machine."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._directory = Path(tempfile.gettempdir()) / f"assl_lightning_{uuid.uuid4().hex}"
        self._path = self._directory / "state.pt"
        weakref.finalize(self, _remove, self._directory, self._process)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Keep the place in a process that was started from the one it is meant for; any other copy has its own."""
        if os.getppid() == state["_process"] != os.getpid():
            vars(self).update(state)
        else:
            self.__init__()  # type: ignore[misc]

    def leave(self, trainer: Trainer, state: dict[str, Any]) -> None:
        """Save the state, in the machine's first process that Lightning has started; elsewhere do nothing."""
        launcher = getattr(trainer.strategy, "launcher", None)
        if getattr(launcher, "_start_method", None) is None or os.getpid() == self._process or trainer.local_rank:
            return
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with open_atomic(self._path) as file:
            torch.save(state, file)

    def take(self) -> dict[str, Any] | None:
        """Return the state that a started process left, once, in the process that it is meant for; else None."""
        if os.getpid() != self._process:
            return None
        state = self.look()
        if state is not None:
            shutil.rmtree(self._directory)
        return state

    def look(self) -> dict[str, Any] | None:
        """Return the state that a started process left, in any process, and leave it there; None if there is none."""
        if not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        return state
