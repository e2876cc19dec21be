"""UDA (Xie et al. 2020): sharpened probabilities as pseudo-labels, from a lower confidence."""

from __future__ import annotations

from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import MakeOptimizer
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.settings import TeacherWeights, Temperature, Threshold, WeightDecayExempt
from assl_lightning.networks.base import FeatureNetwork


class UDA(PseudoLabelling):
    """A pseudo-label softmax(logits / T) counts where the largest of softmax(logits) reaches τ.

    The paper minimises the divergence of the strong view's probabilities from it, which has the gradient of their
    cross-entropy. Its release of labelled images from easy to hard (training signal annealing) is left out.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups.
        threshold: τ > 0; 0.8 in the paper.
        temperature: T > 0; 0.4 in the paper. At 1 the probabilities stay as they are.
        lambda_u: weight of the unsupervised loss, ≥ 0.
        weight_decay: of the parameters that are not exempt, ≥ 0.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.
        balanced_head: see `PseudoLabelling`.
        teacher: see `PseudoLabelling`.
    """

    can_be_captured = True

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        threshold: float = 0.8,
        temperature: float = 0.4,
        lambda_u: float = 1.0,
        weight_decay: float = 5e-4,
        weight_decay_exempt: WeightDecayExempt = "by_module",
        balanced_head: bool = False,
        teacher: TeacherWeights = "student",
    ) -> None:
        super().__init__(
            network,
            optimizer=optimizer,
            lambda_u=lambda_u,
            weight_decay=weight_decay,
            weight_decay_exempt=weight_decay_exempt,
            balanced_head=balanced_head,
            teacher=teacher,
        )
        self.threshold: float = checked("threshold", threshold, Threshold)
        self.temperature: float = checked("temperature", temperature, Temperature)

    def judge(self, weak: Tensor, labelled: Tensor, index: Tensor) -> PseudoLabels:
        """Return sharpened probabilities, of which those count whose class was predicted with confidence."""
        logits = weak.detach().float()
        confidence = logits.softmax(-1).amax(-1)
        return PseudoLabels((logits / self.temperature).softmax(-1), (confidence >= self.threshold).float())
