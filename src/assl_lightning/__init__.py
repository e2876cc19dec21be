"""Active semi-supervised learning for PyTorch Lightning.

The names below are imported on first use, so that `import assl_lightning` alone waits for neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from assl_lightning.version import __version__ as __version__

if TYPE_CHECKING:
    from assl_lightning import scores as scores
    from assl_lightning.algorithms.fixmatch import FixMatch as FixMatch
    from assl_lightning.callbacks.score import ASSLScoreCallback as ASSLScoreCallback
    from assl_lightning.contracts import Observation as Observation
    from assl_lightning.datamodule import PoolDataModule as PoolDataModule
    from assl_lightning.rounds import run_rounds as run_rounds
    from assl_lightning.statistics import SampleStatistics as SampleStatistics

_HOME = {
    "ASSLScoreCallback": "assl_lightning.callbacks.score",
    "FixMatch": "assl_lightning.algorithms.fixmatch",
    "Observation": "assl_lightning.contracts",
    "PoolDataModule": "assl_lightning.datamodule",
    "SampleStatistics": "assl_lightning.statistics",
    "run_rounds": "assl_lightning.rounds",
}

__all__ = ["ASSLScoreCallback", "FixMatch", "Observation", "PoolDataModule", "SampleStatistics", "run_rounds", "scores"]


def __getattr__(name: str) -> object:
    if name == "scores":
        return import_module("assl_lightning.scores")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'assl_lightning' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
