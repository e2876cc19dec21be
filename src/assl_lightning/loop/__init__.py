"""Rounds of training, querying and labelling, and the directory that they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.data.pool import Answers as Answers
    from assl_lightning.data.pool import Corrections as Corrections
    from assl_lightning.learning.settings import CheckpointSettings as CheckpointSettings
    from assl_lightning.loop.oracles import HeldBackLabels as HeldBackLabels
    from assl_lightning.loop.oracles import LabelRequest as LabelRequest
    from assl_lightning.loop.oracles import Oracle as Oracle
    from assl_lightning.loop.oracles import Pending as Pending
    from assl_lightning.loop.oracles import held_back_labels as held_back_labels
    from assl_lightning.loop.records import RoundRecord as RoundRecord
    from assl_lightning.loop.records import read_config as read_config
    from assl_lightning.loop.records import read_records as read_records
    from assl_lightning.loop.rounds import run_rounds as run_rounds
    from assl_lightning.loop.settings import RoundSettings as RoundSettings
    from assl_lightning.method.settings import ScoreSettings as ScoreSettings

__getattr__, __dir__ = make_face(
    __name__,
    {
        "data.pool": ["Answers", "Corrections"],
        "learning.settings": ["CheckpointSettings"],
        "loop.oracles": ["HeldBackLabels", "LabelRequest", "Oracle", "Pending", "held_back_labels"],
        "loop.records": ["RoundRecord", "read_config", "read_records"],
        "loop.rounds": ["run_rounds"],
        "loop.settings": ["RoundSettings"],
        "method.settings": ["ScoreSettings"],
    },
)
