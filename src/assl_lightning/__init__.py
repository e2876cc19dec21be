"""Active semi-supervised learning for PyTorch Lightning.

The names below are imported on first use, so that `import assl_lightning` alone waits for neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from assl_lightning.base.version import __version__ as __version__

if TYPE_CHECKING:
    from assl_lightning.learning.datamodule import PoolDataModule
    from assl_lightning.learning.fixmatch import FixMatch
    from assl_lightning.loop.rounds import run_rounds
    from assl_lightning.method import scores
    from assl_lightning.method.callback import ASSLScoreCallback
    from assl_lightning.method.contracts import Observation
    from assl_lightning.method.statistics import SampleStatistics

_HOME = {
    "ASSLScoreCallback": "assl_lightning.method.callback",
    "FixMatch": "assl_lightning.learning.fixmatch",
    "Observation": "assl_lightning.method.contracts",
    "PoolDataModule": "assl_lightning.learning.datamodule",
    "SampleStatistics": "assl_lightning.method.statistics",
    "run_rounds": "assl_lightning.loop.rounds",
}

__all__ = ["ASSLScoreCallback", "FixMatch", "Observation", "PoolDataModule", "SampleStatistics", "run_rounds", "scores"]


def __getattr__(name: str) -> object:
    if name == "scores":
        return import_module("assl_lightning.method.scores")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'assl_lightning' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
