"""Training with pseudo-labels: the weak view of an unlabelled image says what its strong view should be taken for.

FixMatch and its successors differ in which pseudo-labels they take, and how much each of them counts; the rest of the
step is the same and is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import Algorithm, MakeOptimizer, mean_cross_entropy
from assl_lightning.learning.settings import LossWeight, WeightDecayExempt
from assl_lightning.method.contracts import Batch, StepOutput
from assl_lightning.networks.base import FeatureNetwork


class PseudoLabels(NamedTuple):
    """The classes that the unlabelled images of a step are taken for, and how much each counts."""

    label: Tensor  # (Bu,) int64
    weight: Tensor  # (Bu,) float32 in [0, 1]


class StepLoss(NamedTuple):
    """The parts of the loss, each a () tensor; `mask_rate` in [0, 1] is the mean weight of the pseudo-labels."""

    total: Tensor
    supervised: Tensor
    unsupervised: Tensor
    mask_rate: Tensor


class PseudoLabelling(Algorithm, ABC):
    """One joint forward of labelled, weak and strong images; subclasses write `judge`.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups; the papers' is SGD with momentum 0.9 and Nesterov.
        lambda_u: weight of the unsupervised loss, ≥ 0.
        weight_decay: of the parameters that are not exempt, ≥ 0.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.
    """

    produces: ClassVar[frozenset[str]] = frozenset({"statistics"})

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        lambda_u: float = 1.0,
        weight_decay: float = 5e-4,
        weight_decay_exempt: WeightDecayExempt = "by_module",
    ) -> None:
        super().__init__(
            network, optimizer=optimizer, weight_decay=weight_decay, weight_decay_exempt=weight_decay_exempt
        )
        self.lambda_u: float = checked("lambda_u", lambda_u, LossWeight)

    @abstractmethod
    def judge(self, weak: Tensor, labelled: Tensor, index: Tensor) -> PseudoLabels:
        """Return the pseudo-labels of a step, and bring running averages up to date.

        Args:
            weak: (Bu, C) logits of the unlabelled images' weak views, without a gradient; Bu may be 0.
            labelled: (B, C) logits of the labelled images, without a gradient.
            index: (Bu,) int64 pool indices of the unlabelled images.
        """

    def further_loss(self, strong: Tensor, pseudo: PseudoLabels) -> Tensor | None:
        """Return a () loss of the strong views' logits (Bu, C) to be added to the others, or None."""
        return None

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """One step: the loss, the logits of both views of the unlabelled images, and features to keep."""
        num_labelled, num_unlabelled = len(batch["label"]), len(batch["index"])
        features = self._features(batch)
        sizes = [num_labelled, num_unlabelled, num_unlabelled]
        labelled, weak, strong = self.network.head(features).split(sizes)
        features_labelled, features_weak, _ = features.split(sizes)

        pseudo = self.judge(weak.detach(), labelled.detach(), batch["index"])
        loss = pseudo_label_loss(labelled, batch["label"], strong, pseudo, lambda_u=self.lambda_u)
        further = self.further_loss(strong, pseudo)
        total = loss.total if further is None else loss.total + further
        self.log_step(
            {
                "loss": total,
                "loss_supervised": loss.supervised,
                "loss_unsupervised": loss.unsupervised,
                "mask_rate": loss.mask_rate,
            },
            batch_size=num_labelled,
        )
        return {
            "loss": total,
            "index": batch["index"],
            "logits_weak": weak.detach(),
            "logits_strong": strong.detach(),
            "features_weak": features_weak.detach(),
            "labelled_index": batch["labelled_index"],
            "features_labelled": features_labelled.detach(),
        }

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Return the sum of `values` (…) over all processes, the same to the last bit on each of them."""
        trainer = self._trainer
        if trainer is None or trainer.world_size == 1:
            return values
        gathered: Tensor = self.all_gather(values)  # type: ignore[assignment]
        return gathered.sum(0)

    def mean_over_ranks(self, rows: Tensor) -> Tensor:
        """Return the mean of rows (n, …) of all processes, (…); NaN where there is no row."""
        sums = self.sum_over_ranks(torch.cat([rows.sum(0).flatten(), rows.new_full((1,), len(rows))]))
        return (sums[:-1] / sums[-1]).view(rows.shape[1:])

    def _features(self, batch: Batch) -> Tensor:
        """(B + 2 · Bu, d) of the labelled images, the weak and the strong views.

        Batch norm must see them all together. Without it, the weak views, to which no gradient flows, are passed
        without keeping what a gradient needs, which is a third of the step.
        """
        labelled, weak, strong = batch["labelled_image"], batch["weak"], batch["strong"]
        if not self.network.samples_are_independent:
            return self.network.features(torch.cat([labelled, weak, strong]))
        of_labelled, of_strong = self.network.features(torch.cat([labelled, strong])).split(
            [len(labelled), len(strong)]
        )
        with torch.no_grad():  # last: autocast may keep a weight as it first cast it, gradient or not (torch < 2.11)
            of_weak = self.network.features(weak)
        return torch.cat([of_labelled, of_weak, of_strong])


def pseudo_label_loss(
    logits_labelled: Tensor, label: Tensor, logits_strong: Tensor, pseudo: PseudoLabels, *, lambda_u: float = 1.0
) -> StepLoss:
    """Cross-entropy of the labelled, plus λ_u times that of the strong views with their pseudo-labels, weighted.

    Args:
        logits_labelled: (B, C).
        label: (B,) int64.
        logits_strong: (Bu, C).
        pseudo: Bu rows.

    The unsupervised part is a mean over all Bu rows, not over those that count. In float32 whatever the inputs. With
    Bu = 0 the step is the supervised one.
    """
    supervised = mean_cross_entropy(logits_labelled, label)
    if len(logits_strong) == 0:
        return StepLoss(supervised, supervised, torch.zeros_like(supervised), torch.zeros_like(supervised))
    entropy = F.cross_entropy(logits_strong.float(), pseudo.label, reduction="none")
    unsupervised = (pseudo.weight * entropy).mean()
    return StepLoss(supervised + lambda_u * unsupervised, supervised, unsupervised, pseudo.weight.mean())
