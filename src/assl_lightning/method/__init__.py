"""The paper: scores, running statistics, the confidence bound, and the callback that keeps them in a training.

Lim, Na and Kwak 2023. `scores` has Eq. 1, 2 and 4, `statistics` Eq. 3 and 5, `assl` Eq. 6; `callback` puts them
together while a network trains. `herding` is not from the paper: it covers the pool, weighed by the paper's
statistics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.method import reducers as reducers
    from assl_lightning.method import scores as scores
    from assl_lightning.method.assl import ASSL as ASSL
    from assl_lightning.method.assl_div import ASSLDiv as ASSLDiv
    from assl_lightning.method.callback import ASSLScoreCallback as ASSLScoreCallback
    from assl_lightning.method.candidate_statistics import CandidateStatistics as CandidateStatistics
    from assl_lightning.method.candidates import Acquisition as Acquisition
    from assl_lightning.method.candidates import Candidates as Candidates
    from assl_lightning.method.candidates import LabelledSamples as LabelledSamples
    from assl_lightning.method.candidates import Selection as Selection
    from assl_lightning.method.contracts import Batch as Batch
    from assl_lightning.method.contracts import EvaluationBatch as EvaluationBatch
    from assl_lightning.method.contracts import Observation as Observation
    from assl_lightning.method.contracts import StepOutput as StepOutput
    from assl_lightning.method.contracts import TrainingStep as TrainingStep
    from assl_lightning.method.features import SampleFeatures as SampleFeatures
    from assl_lightning.method.herding import Herding as Herding
    from assl_lightning.method.indexed_dataset import IndexedDataset as IndexedDataset
    from assl_lightning.method.observers import Observer as Observer
    from assl_lightning.method.observers import observe_step_output as observe_step_output
    from assl_lightning.method.regions import RegionGrid as RegionGrid
    from assl_lightning.method.statistics import SampleStatistics as SampleStatistics

__getattr__, __dir__ = make_face(
    __name__,
    {
        "method.assl": ["ASSL"],
        "method.assl_div": ["ASSLDiv"],
        "method.callback": ["ASSLScoreCallback"],
        "method.candidate_statistics": ["CandidateStatistics"],
        "method.candidates": ["Acquisition", "Candidates", "LabelledSamples", "Selection"],
        "method.contracts": ["Batch", "EvaluationBatch", "Observation", "StepOutput", "TrainingStep"],
        "method.features": ["SampleFeatures"],
        "method.herding": ["Herding"],
        "method.indexed_dataset": ["IndexedDataset"],
        "method.observers": ["Observer", "observe_step_output"],
        "method.reducers": ["reducers"],
        "method.regions": ["RegionGrid"],
        "method.scores": ["scores"],
        "method.statistics": ["SampleStatistics"],
    },
)
