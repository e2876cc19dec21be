"""Shall more be labelled? Numbers from the rounds so far, and rules that end a run early; needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assl_lightning.base.faces import make_face

if TYPE_CHECKING:
    from assl_lightning.stopping.agreement import Agreement as Agreement
    from assl_lightning.stopping.learning_curve import Expected as Expected
    from assl_lightning.stopping.learning_curve import expected_accuracy as expected_accuracy
    from assl_lightning.stopping.picked_accuracy import PickedAccuracy as PickedAccuracy
    from assl_lightning.stopping.picked_accuracy import lure_weights as lure_weights
    from assl_lightning.stopping.rules import Progress as Progress
    from assl_lightning.stopping.rules import StopOnAccuracy as StopOnAccuracy
    from assl_lightning.stopping.rules import StopOnAgreement as StopOnAgreement
    from assl_lightning.stopping.rules import StopOnPlateau as StopOnPlateau
    from assl_lightning.stopping.rules import StopRule as StopRule

__getattr__, __dir__ = make_face(
    __name__,
    {
        "stopping.agreement": ["Agreement"],
        "stopping.learning_curve": ["Expected", "expected_accuracy"],
        "stopping.picked_accuracy": ["PickedAccuracy", "lure_weights"],
        "stopping.rules": ["Progress", "StopOnAccuracy", "StopOnAgreement", "StopOnPlateau", "StopRule"],
    },
)
