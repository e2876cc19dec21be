"""The checkpoints that a training writes on its way, the last two of which are kept."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assl_lightning.base import tensor_files
from assl_lightning.learning.checkpointing import CHECKPOINT_IDENTITY
from assl_lightning.loop.run_config import RunConfig

log = logging.getLogger(__name__)

CHECKPOINT_FORMAT = 1
"""The version of the content of a checkpoint."""

_NAME = re.compile(r"step_(\d{8,})\.ckpt")
_CONTENT = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "epoch")
_KEPT = 2  # the newest, and the one before in case the newest is damaged


@dataclass(frozen=True)
class FitCheckpoints:
    """The checkpoints of one training, a file for each saved step.

    Attributes:
        directory: where they lie.
        config: of the run.
        training: what tells the training from the others of its run, such as {"round": 3}.
    """

    directory: Path
    config: RunConfig
    training: Mapping[str, int | str]

    @property
    def identity(self) -> dict[str, Any]:
        """The run and the training that a checkpoint names beside its step."""
        return {"format": CHECKPOINT_FORMAT, "run_id": self.config.run_id, **self.training}

    def path(self, step: int) -> Path:
        """Return the path of the checkpoint of a step."""
        return self.directory / f"step_{step:08d}.ckpt"

    def last(self) -> Path | None:
        """Return the newest checkpoint that is whole and of this training; log those that are not."""
        checkpoints = self._newest_first()
        for path in sorted({*self.directory.glob("step_*")} - {*checkpoints}):
            log.warning("%s is passed over: it is no file of the name of a checkpoint, step_00000001.ckpt", path)
        for path in checkpoints:
            problem = self._problem(path)
            if problem is None:
                return path
            log.warning("checkpoint %s is passed over for the one before it: %s", path, problem)
        return None

    def keep_newest(self, step: int) -> None:
        """Keep the checkpoint of `step` and the one before; remove older ones and later ones that were passed over."""
        checkpoints = self._newest_first()
        newest = checkpoints.index(self.path(step))
        for path in [*checkpoints[:newest], *checkpoints[newest + _KEPT :]]:
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all checkpoints of the training."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _problem(self, path: Path) -> str | None:
        try:
            content = tensor_files.load(path)
        except (ValueError, OSError) as error:
            return str(error)
        identity, expected = content.get(CHECKPOINT_IDENTITY), self.identity
        if not isinstance(identity, dict) or {name: identity.get(name) for name in expected} != expected:
            return f"it says of itself {identity}, and a checkpoint of this training says {expected}"
        missing = [name for name in _CONTENT if name not in content]
        return f"it is without {', '.join(missing)}" if missing else None

    def _newest_first(self) -> list[Path]:
        """Return the checkpoints in the order of their steps, as times of files may be wrong."""
        files = (path for path in self.directory.glob("step_*") if path.is_file())
        named = ((_NAME.fullmatch(path.name), path) for path in files)
        return [path for _, path in sorted(((int(name[1]), path) for name, path in named if name), reverse=True)]
