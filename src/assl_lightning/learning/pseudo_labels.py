"""Training with pseudo-labels: the weak view of an unlabelled image says what its strong view should be taken for.

FixMatch and its successors differ in which pseudo-labels they take, and how much each of them counts; the rest of the
step is the same and is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.rules import checked
from assl_lightning.data.pool import Pool
from assl_lightning.learning.algorithm import Algorithm, MakeOptimizer
from assl_lightning.learning.balanced_head import BalancedLoss
from assl_lightning.learning.datamodule import PoolDataModule
from assl_lightning.learning.pseudo_label_loss import PseudoLabels, pseudo_label_loss
from assl_lightning.learning.settings import LossWeight, TeacherWeights, WeightDecayExempt
from assl_lightning.learning.teacher import Teacher, weight_ema_of
from assl_lightning.method.contracts import Batch, StepOutput
from assl_lightning.networks.base import FeatureNetwork

PREDICTING = "network.head"
"""The name of the head that predicts."""


class Teaching(NamedTuple):
    """The logits that pseudo-labels come from, without a gradient."""

    labelled: Tensor  # (B, C)
    weak: Tensor  # (Bu, C)


class PseudoLabelling(Algorithm, ABC):
    """One joint forward of labelled, weak and strong images; subclasses write `judge`.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups; the papers' is SGD with momentum 0.9 and Nesterov.
        lambda_u: weight of the unsupervised loss, ≥ 0.
        weight_decay: of the parameters that are not exempt, ≥ 0.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.
        balanced_head: for pools whose classes are not about as frequent. The network's head then learns by
            `BalancedLoss`, with features that both losses train, and is the one that predicts, here and in every step
            output; `judge` and its loss have a head of their own, which begins with the same weights. The datamodule's
            `pool` has the labels to count; without one call `balanced.count`.
        teacher: whose predictions for the weak views are the pseudo-labels: "student", the network's in the same step,
            or "ema", those of the averaged weights in evaluation mode, by one forward pass more; see `Teacher`. What a
            step returns is the student's.
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
        balanced_head: bool = False,
        teacher: TeacherWeights = "student",
    ) -> None:
        has_balanced = checked("balanced_head", balanced_head, bool)
        super().__init__(
            network,
            optimizer=optimizer,
            weight_decay=weight_decay,
            weight_decay_exempt=weight_decay_exempt,
            further_heads={"judging_head": deepcopy(network.head)} if has_balanced else {},
        )
        self.lambda_u: float = checked("lambda_u", lambda_u, LossWeight)
        self.balanced = BalancedLoss(network.num_classes) if has_balanced else None
        require_one_of("teacher", teacher, TeacherWeights)
        # a tuple, so that no module registers it, with all its weights once more
        self._teacher: tuple[Teacher, ...] = (Teacher(self),) if teacher == "ema" else ()

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
        logits = {name: head(features).split(sizes) for name, head in self.heads.items()}
        features_labelled, features_weak, _ = features.split(sizes)
        teaching = self._teaching(batch, logits)

        labelled, _, strong = logits[self._judging]
        teacher = teaching[self._judging]
        pseudo = self.judge(teacher.weak, teacher.labelled, batch["index"])
        loss = pseudo_label_loss(labelled, batch["label"], strong, pseudo, lambda_u=self.lambda_u)
        further = self.further_loss(strong, pseudo)
        total = loss.total if further is None else loss.total + further
        logged = {"loss_supervised": loss.supervised, "loss_unsupervised": loss.unsupervised}
        labelled, weak, strong = logits[PREDICTING]
        if self.balanced is not None:
            own = self.balanced.weigh(teaching[PREDICTING].weak, self.balanced.progress)
            logged["loss_balanced"] = self.balanced(labelled, batch["label"], strong, own)
            total = total + logged["loss_balanced"]
        self.log_step({"loss": total, **logged, "mask_rate": loss.mask_rate}, batch_size=num_labelled)
        return {
            "loss": total,
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

    @property
    def _judging(self) -> str:
        """The name of the head whose predictions are judged."""
        return PREDICTING if self.balanced is None else "judging_head"

    def _teaching(self, batch: Batch, logits: Mapping[str, Sequence[Tensor]]) -> dict[str, Teaching]:
        """Return what teaches each head, by name and without a gradient: the student's `logits`, or the teacher's."""
        if not self._teacher:
            return {name: Teaching(of[0].detach(), of[1].detach()) for name, of in logits.items()}
        (teacher,) = self._teacher
        images = torch.cat([batch["labelled_image"], batch["weak"]])
        predicted = teacher.predict(images, weight_ema_of(self.trainer))
        sizes = [len(batch["labelled_image"]), len(batch["weak"])]
        return {name: Teaching(*of.split(sizes)) for name, of in predicted.items()}

    @property
    def needs_weight_ema(self) -> bool:
        """True if the fit must have a `WeightEMA`."""
        return bool(self._teacher)

    def on_fit_start(self) -> None:
        """Raise a ValueError if there are no averaged weights, and the pseudo-labels are to be theirs."""
        if self._teacher:
            weight_ema_of(self.trainer)

    def setup(self, stage: str) -> None:
        """Count the labels of the datamodule's pool, for a balanced head.

        Raises:
            ValueError: there is a balanced head, and its labels were not counted.
        """
        if stage != "fit" or self.balanced is None:
            return
        pool = getattr(getattr(self.trainer, "datamodule", None), "pool", None)
        if isinstance(pool, Pool):
            self.balanced.count(pool.labels[pool.labelled])
        elif not self.balanced.is_counted:
            raise ValueError(
                "balanced_head needs the labels of all labelled images: fit with a datamodule that has a Pool as its "
                "pool, or call algorithm.balanced.count(labels) before the fit"
            )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell a balanced head how far the fit is."""
        if self.balanced is not None:
            self.balanced.progress.fill_(self._progress())

    def _progress(self) -> float:
        """Return the share of the fit's steps that are done, in [0, 1]; 0 without a fit."""
        trainer = self._trainer
        if trainer is None:
            return 0.0
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, PoolDataModule):
            return trainer.global_step / datamodule.num_steps
        return min(trainer.global_step / trainer.estimated_stepping_batches, 1.0)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Return the sum of `values` (…) over all processes, the same to the last bit on each of them.

        The gradient flows into the values of this process, as many times as there are processes: DDP takes the mean of
        the processes' gradients, which then is the gradient of one process that has all rows.
        """
        trainer = self._trainer
        if trainer is None or trainer.world_size == 1:
            return values
        gathered: Tensor = self.all_gather(values.detach())  # type: ignore[assignment]
        return gathered.sum(0) + trainer.world_size * (values - values.detach())  # which adds 0

    def mean_over_ranks(self, rows: Tensor) -> Tensor:
        """Return the mean of rows (n, …) of all processes, (…); NaN where there is no row."""
        sums = self.sum_over_ranks(torch.cat([rows.sum(0).flatten(), rows.new_full((1,), len(rows))]))
        return (sums[:-1] / sums[-1]).view(rows.shape[1:])
