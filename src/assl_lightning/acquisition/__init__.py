"""Acquisition functions (strategies): from numbers about the unlabelled samples to the indices to label next.

`Herding` is the default: it covers the pool, weighed by the paper's uncertainty. `ASSL` and `ASSLDiv` are the paper's
own. These three are defined in `method`; the others are here, one file for each idea.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.acquisition.alfa_mix import ALFAMix as ALFAMix
    from assl_lightning.acquisition.badge import BADGE as BADGE
    from assl_lightning.acquisition.bald import BALD as BALD
    from assl_lightning.acquisition.cdal import CDAL as CDAL
    from assl_lightning.acquisition.coreset import CoreSet as CoreSet
    from assl_lightning.acquisition.dcom import DCoM as DCoM
    from assl_lightning.acquisition.flip import Flip as Flip
    from assl_lightning.acquisition.forgetting import Forgetting as Forgetting
    from assl_lightning.acquisition.highest_score import HighestScore as HighestScore
    from assl_lightning.acquisition.kmeans_plus_plus import KMeansPlusPlus as KMeansPlusPlus
    from assl_lightning.acquisition.power import PowerSampling as PowerSampling
    from assl_lightning.acquisition.prob_cover import ProbCover as ProbCover
    from assl_lightning.acquisition.random import RandomSampling as RandomSampling
    from assl_lightning.acquisition.scikit_activeml import ScikitActiveML as ScikitActiveML
    from assl_lightning.acquisition.temporal_mean import TemporalMean as TemporalMean
    from assl_lightning.acquisition.typiclust import TypiClust as TypiClust
    from assl_lightning.acquisition.uncertainty import Entropy as Entropy
    from assl_lightning.acquisition.uncertainty import LeastConfidence as LeastConfidence
    from assl_lightning.acquisition.uncertainty import Margin as Margin
    from assl_lightning.acquisition.uncertainty import PseudoEL2N as PseudoEL2N
    from assl_lightning.acquisition.uncertainty import UncertaintySampling as UncertaintySampling
    from assl_lightning.acquisition.uncertainty_herding import UncertaintyHerding as UncertaintyHerding
    from assl_lightning.acquisition.view_variance import ViewVariance as ViewVariance
    from assl_lightning.method.assl import ASSL as ASSL
    from assl_lightning.method.assl_div import ASSLDiv as ASSLDiv
    from assl_lightning.method.candidates import Acquisition as Acquisition
    from assl_lightning.method.candidates import Candidates as Candidates
    from assl_lightning.method.candidates import LabelledSamples as LabelledSamples
    from assl_lightning.method.candidates import Selection as Selection
    from assl_lightning.method.herding import Herding as Herding

__getattr__, __dir__ = make_face(
    __name__,
    {
        "acquisition.alfa_mix": ["ALFAMix"],
        "acquisition.badge": ["BADGE"],
        "acquisition.bald": ["BALD"],
        "acquisition.cdal": ["CDAL"],
        "acquisition.coreset": ["CoreSet"],
        "acquisition.dcom": ["DCoM"],
        "acquisition.flip": ["Flip"],
        "acquisition.forgetting": ["Forgetting"],
        "acquisition.highest_score": ["HighestScore"],
        "acquisition.kmeans_plus_plus": ["KMeansPlusPlus"],
        "acquisition.power": ["PowerSampling"],
        "acquisition.prob_cover": ["ProbCover"],
        "acquisition.random": ["RandomSampling"],
        "acquisition.scikit_activeml": ["ScikitActiveML"],
        "acquisition.temporal_mean": ["TemporalMean"],
        "acquisition.typiclust": ["TypiClust"],
        "acquisition.uncertainty": ["Entropy", "LeastConfidence", "Margin", "PseudoEL2N", "UncertaintySampling"],
        "acquisition.uncertainty_herding": ["UncertaintyHerding"],
        "acquisition.view_variance": ["ViewVariance"],
        "method.assl": ["ASSL"],
        "method.assl_div": ["ASSLDiv"],
        "method.candidates": ["Acquisition", "Candidates", "LabelledSamples", "Selection"],
        "method.herding": ["Herding"],
    },
)
