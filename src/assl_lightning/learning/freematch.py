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
        classes = self.network.num_classes
        probability = weak.float().softmax(-1)
        confidence, label = probability.max(-1)
        rows = torch.cat([confidence.unsqueeze(1), probability, F.one_hot(label, classes)], dim=1)
        of_confidence, of_probability, of_label = self.mean_over_ranks(rows).split([1, classes, classes])
        self.running.update(confidence=of_confidence.squeeze(), probability=of_probability, histogram=of_label)
        of_class = self.running["probability"] / self.running["probability"].max()
        threshold = self.running["confidence"].clamp_max(self.max_threshold) * of_class[label]
        return PseudoLabels(label, (confidence >= threshold).float())

    def further_loss(self, strong: Tensor, pseudo: PseudoLabels) -> Tensor | None:
        """Return λ_e times the fairness term, by the strong views of all processes; None where λ_e is 0."""
        if not self.fairness:
            return None
        sums = self.sum_over_ranks(sums_of_counted(strong, pseudo.weight))
        return self.fairness * fairness_loss(sums, self.running["probability"], self.running["histogram"])


def sums_of_counted(strong: Tensor, weight: Tensor) -> Tensor:
    """Return Σ w · p and Σ w · onehot(argmax p), (2, C), of the probabilities p of strong views.

    Args:
        strong: (Bu, C) logits, through which the gradient flows.
        weight: (Bu,) w: 1 for the views that count, 0 for the others.
    """
    predicted = strong.float().softmax(-1)
    classes = F.one_hot(predicted.detach().argmax(-1), strong.shape[-1])
    rows = torch.stack([predicted, classes], dim=1)
    return (weight[:, None, None] * rows).sum(0)  # no product of matrices, which autocast would round


def fairness_loss(sums: Tensor, probability: Tensor, histogram: Tensor) -> Tensor:
    """Return Σ_c A_c · log(B_c + 10⁻¹²) ≤ 0, (); 0 where no strong view counts.

    A = norm(P / H), the pool's mean probability of each class over how often it is predicted, and B = norm(p̄ / h), the
    same of the strong views that count. A ratio is 0 where its divisor is 0. Minimising the term moves B away from A;
    the sign is that of USB's code.

    Args:
        sums: (2, C) p̄ and h, by `sums_of_counted`: the number of views that count falls out of their ratio.
        probability: (C,) P.
        histogram: (C,) H.
    """
    predicted, classes = sums
    of_pool, of_strong = _norm(_divide(probability, histogram)), _norm(_divide(predicted, classes))
    term = (of_pool * (of_strong + _TINY).log()).sum()
    return torch.where(classes.sum() > 0, term, 0.0)


def _divide(values: Tensor, by: Tensor) -> Tensor:
    return torch.where(by > 0, values / torch.where(by > 0, by, 1.0), 0.0)


def _norm(values: Tensor) -> Tensor:
    return values / values.sum().clamp_min(_TINY)
