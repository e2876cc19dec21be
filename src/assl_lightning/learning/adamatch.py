"""AdaMatch (Berthelot et al. 2022): a threshold that is relative to the confidence in the labelled images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import MakeOptimizer
from assl_lightning.learning.alignment import DistributionAlignment, Target
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.settings import Decay, TeacherWeights, Threshold, WeightDecayExempt
from assl_lightning.networks.base import FeatureNetwork


class AdaMatch(PseudoLabelling):
    """A pseudo-label counts from a confidence of τ · the mean confidence of the step's labelled images.

    Label and confidence are those of the aligned probabilities, `DistributionAlignment`. The domain adaptation of the
    paper, with its random interpolation of logits, is left out.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups.
        threshold: τ > 0, relative; 0.95 in USB's code.
        target: what the classes' frequencies are aligned to: "labelled" in the paper, whose labelled images are a
            random sample. Images that a strategy chose are not, so the default is "uniform"; "prior" or "none" suit
            pools whose classes are not about as frequent.
        prior: (C,) frequencies, for target="prior".
        momentum: m of the running averages, in [0, 1); 0.999 in USB's code.
        momentum_warm_up: m rises from 0, see `RunningAverages`; False in USB's code.
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
        threshold: float = 0.95,
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
        self.threshold: float = checked("threshold", threshold, Threshold)
        self.alignment = DistributionAlignment(
            network.num_classes,
            target,
            prior,
            momentum=checked("momentum", momentum, Decay),
            warm_up=checked("momentum_warm_up", momentum_warm_up, bool),
        )

    @torch.no_grad()
    def judge(self, weak: Tensor, labelled: Tensor, index: Tensor) -> PseudoLabels:
        """Return the most probable classes after alignment, of which those count that reach the threshold."""
        of_labelled = labelled.float().softmax(-1)
        aligned = self.alignment.align(weak.float().softmax(-1), of_labelled, self.mean_over_ranks)
        confidence, label = aligned.max(-1)
        threshold = self.threshold * self.mean_over_ranks(of_labelled.amax(-1))
        return PseudoLabels(label, (confidence >= threshold).float())
