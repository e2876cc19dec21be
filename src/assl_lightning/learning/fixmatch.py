"""FixMatch (Sohn et al. 2020): pseudo-labels from the weak view train the strong view."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import Algorithm, MakeOptimizer, mean_cross_entropy
from assl_lightning.learning.settings import LossWeight, Temperature, Threshold, WeightDecayExempt
from assl_lightning.method.contracts import Batch, StepOutput
from assl_lightning.networks.base import FeatureNetwork


class FixMatch(Algorithm):
    """FixMatch as a LightningModule: one joint forward of labelled, weak and strong images.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups; the paper's is SGD with momentum 0.9 and Nesterov.
        threshold: τ, the confidence from which a pseudo-label counts, > 0; above 1 none ever does.
        temperature: T > 0, which sharpens the weak view's probabilities before the threshold; 1 in the paper.
        lambda_u: weight of the unsupervised loss, ≥ 0.
        weight_decay: 5e-4 in kekmodel's code, which the paper builds on.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.

    >>> from functools import partial
    >>> from assl_lightning.networks.small import SmallCNN
    >>> algorithm = FixMatch(SmallCNN(10), optimizer=partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True))
    >>> algorithm(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 10])
    """

    produces: ClassVar[frozenset[str]] = frozenset({"statistics"})

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
    ) -> None:
        super().__init__(
            network, optimizer=optimizer, weight_decay=weight_decay, weight_decay_exempt=weight_decay_exempt
        )
        self.threshold: float = checked("threshold", threshold, Threshold)
        self.temperature: float = checked("temperature", temperature, Temperature)
        self.lambda_u: float = checked("lambda_u", lambda_u, LossWeight)

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutput:
        """One step: the loss, the logits of both views of the unlabelled images, and features to keep."""
        num_labelled, num_unlabelled = len(batch["label"]), len(batch["index"])
        features = self._features(batch)
        sizes = [num_labelled, num_unlabelled, num_unlabelled]
        labelled, weak, strong = self.network.head(features).split(sizes)
        features_labelled, features_weak, _ = features.split(sizes)

        loss = fixmatch_loss(
            labelled,
            batch["label"],
            weak,
            strong,
            threshold=self.threshold,
            temperature=self.temperature,
            lambda_u=self.lambda_u,
        )
        self.log_step(
            {
                "loss": loss.total,
                "loss_supervised": loss.supervised,
                "loss_unsupervised": loss.unsupervised,
                "mask_rate": loss.mask_rate,
            },
            batch_size=num_labelled,
        )
        return {
            "loss": loss.total,
            "index": batch["index"],
            "logits_weak": weak.detach(),
            "logits_strong": strong.detach(),
            "features_weak": features_weak.detach(),
            "labelled_index": batch["labelled_index"],
            "features_labelled": features_labelled.detach(),
        }

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


class FixMatchLoss(NamedTuple):
    """The parts of the loss, each a () tensor; `mask_rate` in [0, 1] is the share of pseudo-labels that counted."""

    total: Tensor
    supervised: Tensor
    unsupervised: Tensor
    mask_rate: Tensor


def fixmatch_loss(
    logits_labelled: Tensor,
    label: Tensor,
    logits_weak: Tensor,
    logits_strong: Tensor,
    *,
    threshold: float = 0.95,
    temperature: float = 1.0,
    lambda_u: float = 1.0,
) -> FixMatchLoss:
    """Cross-entropy of the labelled, plus λ_u times that of the strong views whose weak view is confident.

    Args:
        logits_labelled: (B, C).
        label: (B,) int64.
        logits_weak: (Bu, C); no gradient flows through it.
        logits_strong: (Bu, C).

    The unsupervised part is a mean over all Bu rows, not over the confident ones. In float32 whatever the inputs.
    With Bu = 0 the step is the supervised one.
    """
    supervised = mean_cross_entropy(logits_labelled, label)
    if len(logits_weak) == 0:
        return FixMatchLoss(supervised, supervised, torch.zeros_like(supervised), torch.zeros_like(supervised))
    probability = F.softmax(logits_weak.detach().float() / temperature, dim=-1)  # q = p(y | weak)
    confidence, pseudo_label = probability.max(dim=-1)
    mask = (confidence >= threshold).float()  # 1(max q ≥ τ)
    unsupervised = (mask * F.cross_entropy(logits_strong.float(), pseudo_label, reduction="none")).mean()
    return FixMatchLoss(supervised + lambda_u * unsupervised, supervised, unsupervised, mask.mean())
