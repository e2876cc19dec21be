"""SoftMatch (Chen et al. 2023): every pseudo-label counts, the less the further its confidence is below the average."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import MakeOptimizer
from assl_lightning.learning.alignment import DistributionAlignment, Target
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.running_averages import RunningAverages
from assl_lightning.learning.settings import Decay, NumSigma, TeacherWeights, WeightDecayExempt
from assl_lightning.networks.base import FeatureNetwork

_LEAST = 1e-12  # of the variance: all confidences may be the same


class SoftMatch(PseudoLabelling):
    """w = exp(−min(c − μ, 0)² · n² / (2v)), with c the confidence, μ and v its running mean and variance.

    The label is the most probable class; the confidence is the largest of the aligned probabilities,
    `DistributionAlignment`.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups.
        n_sigma: n > 0: a confidence √v below the mean weighs exp(−n² / 2); 2 in the paper's code.
        target: what the classes' frequencies are aligned to: "uniform" in the paper, which suits pools whose classes
            are about as frequent; "prior" or "none" for others.
        prior: (C,) frequencies, for target="prior".
        momentum: m of the running averages, in [0, 1); 0.999 in USB's code.
        momentum_warm_up: m rises from 0, see `RunningAverages`; False in USB's code, whose trainings are a thousand
            times as long: after 130 steps as published every pseudo-label weighs at least 0.98.
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
        n_sigma: float = 2.0,
        target: Target = "uniform",
        prior: Sequence[float] | None = None,
        momentum: float = 0.999,
        momentum_warm_up: bool = True,
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
        self.n_sigma: float = checked("n_sigma", n_sigma, NumSigma)
        momentum = checked("momentum", momentum, Decay)
        warm_up = checked("momentum_warm_up", momentum_warm_up, bool)
        classes = network.num_classes
        self.alignment = DistributionAlignment(classes, target, prior, momentum=momentum, warm_up=warm_up)
        self.confidence = RunningAverages(
            momentum, warm_up=warm_up, mean=torch.tensor(1 / classes), variance=torch.tensor(1.0)
        )

    @torch.no_grad()
    def judge(self, weak: Tensor, labelled: Tensor, index: Tensor) -> PseudoLabels:
        """Return the most probable classes, weighted; running averages count this step already."""
        probability = weak.float().softmax(-1)
        label = probability.argmax(-1)
        aligned = self.alignment.align(probability, labelled.float().softmax(-1), self.mean_over_ranks)
        confidence = aligned.amax(-1)
        mean = self.mean_over_ranks(confidence)
        squares = torch.stack([(confidence - mean).square().sum(), confidence.new_full((), len(confidence))])
        of_squares, count = self.sum_over_ranks(squares)
        self.confidence.update(mean=mean, variance=of_squares / (count - 1))
        below = (confidence - self.confidence["mean"]).clamp_max(0)
        spread = self.confidence["variance"].clamp_min(_LEAST)
        return PseudoLabels(label, torch.exp(-below.square() * self.n_sigma**2 / (2 * spread)))
