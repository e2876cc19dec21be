"""FixMatch (Sohn et al. 2020): pseudo-labels from the weak view train the strong view."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import MakeOptimizer
from assl_lightning.learning.pseudo_label_loss import PseudoLabels, StepLoss, pseudo_label_loss
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.settings import TeacherWeights, Temperature, Threshold, WeightDecayExempt
from assl_lightning.networks.base import FeatureNetwork


def confident_labels(logits_weak: Tensor, threshold: float, temperature: float) -> PseudoLabels:
    """Return argmax q with the weight 1(max q ≥ τ), for q = softmax(logits / T) of (Bu, C)."""
    probability = F.softmax(logits_weak.detach().float() / temperature, dim=-1)  # q = p(y | weak)
    confidence, label = probability.max(dim=-1)
    return PseudoLabels(label, (confidence >= threshold).float())


def fixmatch_loss(
    logits_labelled: Tensor,
    label: Tensor,
    logits_weak: Tensor,
    logits_strong: Tensor,
    *,
    threshold: float = 0.95,
    temperature: float = 1.0,
    lambda_u: float = 1.0,
) -> StepLoss:
    """Cross-entropy of the labelled, plus λ_u times that of the strong views whose weak view is confident.

    Args:
        logits_labelled: (B, C).
        label: (B,) int64.
        logits_weak: (Bu, C); no gradient flows through it.
        logits_strong: (Bu, C).

    The unsupervised part is a mean over all Bu rows, not over the confident ones. In float32 whatever the inputs.
    With Bu = 0 the step is the supervised one.
    """
    pseudo = confident_labels(logits_weak, threshold, temperature)
    return pseudo_label_loss(logits_labelled, label, logits_strong, pseudo, lambda_u=lambda_u)


class FixMatch(PseudoLabelling):
    """FixMatch as a LightningModule: one joint forward of labelled, weak and strong images.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups; the paper's is SGD with momentum 0.9 and Nesterov.
        threshold: τ, the confidence from which a pseudo-label counts, > 0; above 1 none ever does.
        temperature: T > 0, which sharpens the weak view's probabilities before the threshold; 1 in the paper.
        lambda_u: weight of the unsupervised loss, ≥ 0.
        weight_decay: 5e-4 in kekmodel's code, which the paper builds on.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.
        balanced_head: see `PseudoLabelling`.
        teacher: see `PseudoLabelling`.

    >>> import torch
    >>> from functools import partial
    >>> from assl_lightning.networks.small import SmallCNN
    >>> algorithm = FixMatch(SmallCNN(10), optimizer=partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True))
    >>> algorithm(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 10])
    """

    can_be_captured = True

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        threshold: float = 0.95,
        temperature: float = 1.0,
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
        """Return the most probable classes, of which those count whose probability reaches the threshold."""
        return confident_labels(weak, self.threshold, self.temperature)
