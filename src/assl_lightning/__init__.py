"""Active semi-supervised learning for PyTorch Lightning: train with few labels, and choose the images to label next.

In a trainer of your own: `IndexedDataset`, `observe` and `ASSLScoreCallback`; without Lightning, `SampleStatistics` and
`scores`. For rounds of training and labelling from Python: `run_rounds` with a `Pool`, its `PoolDataModule`, an
algorithm such as `FixMatch`, a strategy such as `ASSL` or `acquisition.Herding`, an oracle such as `HeldBackLabels`,
and `RoundSettings`. After a run: `load_classifier`.

The names below are imported on first use, so that `import assl_lightning` alone waits for neither torch nor Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face
from assl_lightning.base.version import __version__ as __version__

if TYPE_CHECKING:
    from assl_lightning import observe as observe
    from assl_lightning.config.classifier import load_classifier as load_classifier
    from assl_lightning.data.pool import Pool as Pool
    from assl_lightning.learning.datamodule import PoolDataModule as PoolDataModule
    from assl_lightning.learning.fixmatch import FixMatch as FixMatch
    from assl_lightning.loop.oracles import HeldBackLabels as HeldBackLabels
    from assl_lightning.loop.rounds import run_rounds as run_rounds
    from assl_lightning.loop.settings import RoundSettings as RoundSettings
    from assl_lightning.method import reducers as reducers
    from assl_lightning.method import scores as scores
    from assl_lightning.method.assl import ASSL as ASSL
    from assl_lightning.method.callback import ASSLScoreCallback as ASSLScoreCallback
    from assl_lightning.method.contracts import Observation as Observation
    from assl_lightning.method.indexed_dataset import IndexedDataset as IndexedDataset
    from assl_lightning.method.regions import RegionGrid as RegionGrid
    from assl_lightning.method.statistics import SampleStatistics as SampleStatistics

__all__ = [
    "ASSL",
    "ASSLScoreCallback",
    "FixMatch",
    "HeldBackLabels",
    "IndexedDataset",
    "Observation",
    "Pool",
    "PoolDataModule",
    "RegionGrid",
    "RoundSettings",
    "SampleStatistics",
    "load_classifier",
    "observe",
    "reducers",
    "run_rounds",
    "scores",
]

__getattr__, __dir__ = make_face(
    __name__,
    {
        "config.classifier": ["load_classifier"],
        "data.pool": ["Pool"],
        "learning.datamodule": ["PoolDataModule"],
        "learning.fixmatch": ["FixMatch"],
        "loop.oracles": ["HeldBackLabels"],
        "loop.rounds": ["run_rounds"],
        "loop.settings": ["RoundSettings"],
        "method.assl": ["ASSL"],
        "method.callback": ["ASSLScoreCallback"],
        "method.contracts": ["Observation"],
        "method.indexed_dataset": ["IndexedDataset"],
        "method.reducers": ["reducers"],
        "method.regions": ["RegionGrid"],
        "method.scores": ["scores"],
        "method.statistics": ["SampleStatistics"],
        "observe": ["observe"],
    },
)
