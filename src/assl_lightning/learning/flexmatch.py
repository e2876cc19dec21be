"""FlexMatch (Zhang et al. 2021): lower thresholds for classes that are learned later."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from assl_lightning.base.rules import at_least, checked
from assl_lightning.data.pool import UNLABELLED, Pool
from assl_lightning.learning.algorithm import MakeOptimizer
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from assl_lightning.learning.settings import TeacherWeights, Threshold, WeightDecayExempt
from assl_lightning.networks.base import FeatureNetwork

NEVER_SEEN, NEVER_SURE = -2, -1
"""In place of the class that a sample was last taken for with confidence."""


class FlexMatch(PseudoLabelling):
    """A pseudo-label ŷ counts from a confidence of τ · β_ŷ / (2 − β_ŷ).

    β_c = n_c / max(n_0, n_1, …, n_unsure): n_c counts the samples whose last confident prediction (at least τ) was c,
    and n_unsure the samples that were seen but never predicted with confidence. At first all β are 0, and so every
    pseudo-label counts. A step is judged by the β of the step before.

    Only samples that training has seen are counted. The paper counts all: in a round that sees half of the pool no
    class would ever seem learned, and there would be no threshold.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups.
        threshold: τ > 0; 0.95 in the paper.
        num_samples: N, the size of the pool, whose indices come with the batches. None: that of the datamodule's pool;
            without one, the largest index so far says how many there are, which waits for the device in each step.
        lambda_u: weight of the unsupervised loss, ≥ 0.
        weight_decay: of the parameters that are not exempt, ≥ 0.
        weight_decay_exempt: "by_module" | "by_name", see `parameter_groups`.
        balanced_head: see `PseudoLabelling`.
        teacher: see `PseudoLabelling`.
    """

    can_be_captured = True

    taken_for: Tensor  # (N,) int32: the class that each sample was last taken for with confidence
    counts: Tensor  # (C + 2,) int64: the samples never seen, those of which it was never sure, and those of each class
    learned: Tensor  # (C,) float32 in [0, 1]: β

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        threshold: float = 0.95,
        num_samples: int | None = None,
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
        size = 0 if num_samples is None else checked("num_samples", num_samples, Annotated[int, at_least(1)])
        self._is_sized = size > 0
        self.register_buffer("taken_for", torch.full((size,), NEVER_SEEN, dtype=torch.int32))
        self.register_buffer("counts", torch.zeros(network.num_classes + 2, dtype=torch.int64), persistent=False)
        self.register_buffer("learned", torch.zeros(network.num_classes))
        self._count()
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, ["taken_for"])  # equal on all ranks

    def setup(self, stage: str) -> None:
        """Make room for the datamodule's pool, and forget samples that are no longer unlabelled."""
        super().setup(stage)
        pool = getattr(getattr(self.trainer, "datamodule", None), "pool", None)
        if stage != "fit" or not isinstance(pool, Pool):
            return
        self._make_room(pool.num_samples)
        self._is_sized = True
        left = (pool.labelled_in_round != UNLABELLED).to(self.taken_for.device)
        self.taken_for[: pool.num_samples].masked_fill_(left, NEVER_SEEN)
        self._count()

    def judge(self, weak: Tensor, labelled: Tensor, index: Tensor) -> PseudoLabels:
        """Return the most probable classes, of which those count that reach their threshold."""
        confidence, label = weak.float().softmax(-1).max(-1)
        of_label = self.learned[label]
        pseudo = PseudoLabels(label, (confidence >= self.threshold * of_label / (2 - of_label)).float())
        self._note(index, torch.where(confidence >= self.threshold, label, NEVER_SURE).int())
        return pseudo

    def _note(self, index: Tensor, found: Tensor) -> None:
        """Note what the samples of this step, of all processes, were taken for, and bring β up to date.

        A sample that was taken for a class stays it until it is taken for another. Of a sample that comes twice in a
        step, the last confident row counts. All processes must have as many rows.
        """
        if self._trainer is not None and self._trainer.world_size > 1:
            of_ranks: Tensor = self.all_gather(torch.stack([index, found.long()]))  # type: ignore[assignment]
            index, found = of_ranks.movedim(0, 1).flatten(1).unbind()
            found = found.int()
        if not self._is_sized and len(index):
            self._make_room(int(index.max()) + 1)
        key, order = torch.sort(2 * index + (found >= 0), stable=True)  # of a sample confident rows come last
        index, found = key // 2, found[order]
        is_last = torch.cat([index[1:] != index[:-1], torch.ones_like(index[:1], dtype=torch.bool)])
        before = self.taken_for[index]
        new = torch.where(is_last, torch.where(found >= 0, found, before.clamp_min(NEVER_SURE)), before)
        self.taken_for.scatter_add_(0, index, new - before)
        one = torch.ones_like(index)
        self.counts.scatter_add_(0, new.long() - NEVER_SEEN, one).scatter_add_(0, before.long() - NEVER_SEEN, -one)
        most = self.counts[1:].max().clamp_min(1)  # of the classes, and of the samples of which it was never sure
        self.learned.copy_(self.counts[2:] / most)

    def _count(self) -> None:
        """Count the samples anew; a step changes the counts by its own samples alone."""
        kinds = (self.taken_for - NEVER_SEEN).long()
        self.counts.copy_(torch.bincount(kinds, minlength=len(self.counts)))

    def _make_room(self, num_samples: int) -> None:
        missing = num_samples - len(self.taken_for)
        if missing > 0:
            self.taken_for = torch.cat([self.taken_for, self.taken_for.new_full((missing,), NEVER_SEEN)])
            self._count()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Take over a state of any number of samples: a pool may have grown since, or be unknown until the fit."""
        there = state_dict.get(f"{prefix}taken_for")
        if there is not None and len(there) != len(self.taken_for):
            self.taken_for = self.taken_for.new_full((len(there),), NEVER_SEEN)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self._count()
