"""`observe.keys`: the predictions that `training_step` returns."""

from __future__ import annotations

from assl_lightning.method.observers import StepOutput as keys  # noqa: N813

__all__ = ["keys"]
