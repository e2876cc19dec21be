"""Checkpoints that a kill cannot tear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from assl_lightning.atomic import open_atomic


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its target and renames it: a kill leaves the old file or the new one, never half.

    Lightning's own stages in the temporary directory; across file systems its last move is a copy, and a kill in the
    middle destroys the good file. A target that is no local path (s3://…) is left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(target) as file:
            torch.save(checkpoint, file)
