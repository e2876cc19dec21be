"""One training: the learning algorithms, their batches, and the callbacks of a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.learning.adamatch import AdaMatch as AdaMatch
    from assl_lightning.learning.algorithm import Algorithm as Algorithm
    from assl_lightning.learning.checkpointing import AtomicCheckpointIO as AtomicCheckpointIO
    from assl_lightning.learning.checkpointing import StepCheckpoints as StepCheckpoints
    from assl_lightning.learning.datamodule import PoolDataModule as PoolDataModule
    from assl_lightning.learning.fixmatch import FixMatch as FixMatch
    from assl_lightning.learning.fixmatch import fixmatch_loss as fixmatch_loss
    from assl_lightning.learning.flexmatch import FlexMatch as FlexMatch
    from assl_lightning.learning.freematch import FreeMatch as FreeMatch
    from assl_lightning.learning.non_finite import NonFinite as NonFinite
    from assl_lightning.learning.pseudo_label_loss import PseudoLabels as PseudoLabels
    from assl_lightning.learning.pseudo_labels import PseudoLabelling as PseudoLabelling
    from assl_lightning.learning.simclr import SimCLR as SimCLR
    from assl_lightning.learning.simclr import nt_xent as nt_xent
    from assl_lightning.learning.snapshots import PoolSnapshots as PoolSnapshots
    from assl_lightning.learning.softmatch import SoftMatch as SoftMatch
    from assl_lightning.learning.step_graph import StepGraph as StepGraph
    from assl_lightning.learning.step_seed import StepSeed as StepSeed
    from assl_lightning.learning.supervised import Supervised as Supervised
    from assl_lightning.learning.uda import UDA as UDA
    from assl_lightning.learning.weight_ema import WeightEMA as WeightEMA

__getattr__, __dir__ = make_face(
    __name__,
    {
        "learning.adamatch": ["AdaMatch"],
        "learning.algorithm": ["Algorithm"],
        "learning.checkpointing": ["AtomicCheckpointIO", "StepCheckpoints"],
        "learning.datamodule": ["PoolDataModule"],
        "learning.fixmatch": ["FixMatch", "fixmatch_loss"],
        "learning.flexmatch": ["FlexMatch"],
        "learning.freematch": ["FreeMatch"],
        "learning.non_finite": ["NonFinite"],
        "learning.pseudo_label_loss": ["PseudoLabels"],
        "learning.pseudo_labels": ["PseudoLabelling"],
        "learning.simclr": ["SimCLR", "nt_xent"],
        "learning.snapshots": ["PoolSnapshots"],
        "learning.softmatch": ["SoftMatch"],
        "learning.step_graph": ["StepGraph"],
        "learning.step_seed": ["StepSeed"],
        "learning.supervised": ["Supervised"],
        "learning.uda": ["UDA"],
        "learning.weight_ema": ["WeightEMA"],
    },
)
