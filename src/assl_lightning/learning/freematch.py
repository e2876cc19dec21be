"""FreeMatch (Wang et al. 2023): a threshold that follows the confidence of the whole pool and of each class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import MakeOptimizer
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.running_averages import RunningAverages
from assl_lightning.learning.settings import Decay, LossWeight, MostConfident, TeacherWeights, WeightDecayExempt
from assl_lightning.networks.base import FeatureNetwork

_TINY = 1e-12  # in the logarithm


class FreeMatch(PseudoLabelling):
    """A pseudo-label ŷ counts from a confidence of t · P_ŷ / max P, of running means over the unlabelled images.

    t is the mean confidence and P the mean probability of each class, and both count the step already. A fairness term
    compares how the strong views that count are predicted with how the pool is, `fairness_loss`.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups.
        fairness: λ_e ≥ 0, weight of the fairness term; 0.001 in USB's configurations.
        max_threshold: in (0, 1], of t; 0.95 in USB's configuration for SVHN, 1 elsewhere.
        momentum: m of the running averages, in [0, 1); 0.999 in USB's code.
        momentum_warm_up: m rises from 0, see `RunningAverages`; False in USB's code, whose trainings are a thousand
            times as long: after 130 steps as published the threshold is about 0.2.
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
        fairness: float = 0.001,
        max_threshold: float = 1.0,
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
        self.fairness: float = checked("fairness", fairness, LossWeight)
        self.max_threshold: float = checked("max_threshold", max_threshold, MostConfident)
        classes = network.num_classes
        even = torch.full((classes,), 1 / classes)
        self.running = RunningAverages(
            checked("momentum", momentum, Decay),
            warm_up=checked("momentum_warm_up", momentum_warm_up, bool),
            confidence=torch.tensor(1 / classes),
            probability=even,
            histogram=even,
        )

    @torch.no_grad()
    def judge(self, weak: Tensor, labelled: Tensor, index: Tensor) -> PseudoLabels:
        """Return the most probable classes, of which those count that reach their threshold."""
        probability = weak.float().softmax(-1)
        confidence, label = probability.max(-1)
        self.running.update(
            confidence=self.mean_over_ranks(confidence),
            probability=self.mean_over_ranks(probability),
            histogram=self.mean_over_ranks(F.one_hot(label, self.network.num_classes).float()),
        )
        of_class = self.running["probability"] / self.running["probability"].max()
        threshold = self.running["confidence"].clamp_max(self.max_threshold) * of_class[label]
        return PseudoLabels(label, (confidence >= threshold).float())

    def further_loss(self, strong: Tensor, pseudo: PseudoLabels) -> Tensor | None:
        """Return λ_e times the fairness term; None where λ_e is 0 or there is no strong view."""
        if not (self.fairness and len(strong)):
            return None
        term = fairness_loss(strong, pseudo.weight, self.running["probability"], self.running["histogram"])
        return self.fairness * term


def fairness_loss(strong: Tensor, weight: Tensor, probability: Tensor, histogram: Tensor) -> Tensor:
    """Return Σ_c A_c · log(B_c + 10⁻¹²) ≤ 0, (); 0 where no strong view counts.

    A = norm(P / H), the pool's mean probability of each class over how often it is predicted, and B = norm(p̄ / h), the
    same of the strong views that count. A ratio is 0 where its divisor is 0. Minimising the term moves B away from A;
    the sign is that of USB's code. Under DDP each process compares its own strong views.

    Args:
        strong: (Bu, C) logits, through which the gradient flows.
        weight: (Bu,) 1 for the views that count, 0 for the others.
        probability: (C,) P.
        histogram: (C,) H.
    """
    counted = weight.sum()
    shares = weight / counted.clamp_min(1)
    predicted = strong.float().softmax(-1)
    mean = (shares.unsqueeze(1) * predicted).sum(0)  # no product of matrices, which autocast would round
    classes = F.one_hot(predicted.detach().argmax(-1), strong.shape[-1])
    share = (shares.unsqueeze(1) * classes).sum(0)
    of_pool, of_strong = _norm(_divide(probability, histogram)), _norm(_divide(mean, share))
    term = (of_pool * (of_strong + _TINY).log()).sum()
    return torch.where(counted > 0, term, 0.0)


def _divide(values: Tensor, by: Tensor) -> Tensor:
    return torch.where(by > 0, values / torch.where(by > 0, by, 1.0), 0.0)


def _norm(values: Tensor) -> Tensor:
    return values / values.sum().clamp_min(_TINY)
