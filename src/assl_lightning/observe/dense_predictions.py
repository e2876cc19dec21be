"""`observe.dense`: networks that predict a class for each pixel, voxel or token of a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from torch import Tensor

from assl_lightning.base.arguments import require_one_of, whole_number
from assl_lightning.base.rules import SHARE, checked
from assl_lightning.method import scores
from assl_lightning.method.contracts import Observation, TrainingStep
from assl_lightning.method.observers import ViewObserver
from assl_lightning.method.statistics import NOTHING
from assl_lightning.method.view_scores import Views, to_observation
from assl_lightning.observe.around import AroundViews

Reducer = Literal["mean", "top"]
"""From the numbers of a sample's places to one: their mean, or the mean of the largest."""


class dense(AroundViews):  # noqa: N801
    """Score each pixel, voxel or token by Eq. 1 and 4, and reduce the numbers of a sample to one.

    For torchgeo's SemanticSegmentationTask, segmentation_models_pytorch, torchvision's segmentation, and taggers of
    tokens: the logits are (B, C, H, W), or have their classes along another axis. Both views must lie alike: where a
    strong view was cut or mirrored, the predictions must have been brought back (`undo` of `second_view`).

    Args:
        inner: the maker that finds the logits.
        dim: the classes' axis.
        reducer: "mean" of a sample's places, or "top": the mean of its `share` of largest numbers, for small objects.
        share: of the places that "top" takes, in (0, 1].
        ignore_index: places where `target` has this value do not count; a sample without any other is left out.
        target: key or position in the batch of the targets (B, H, W) that `ignore_index` is looked for in.

    >>> from assl_lightning import observe
    >>> observe.dense(observe.forward("model", weak=0), reducer="top", share=0.05).reducer
    'top'
    """

    def __init__(
        self,
        inner: ViewObserver,
        dim: int = 1,
        *,
        reducer: Reducer = "mean",
        share: float = 0.1,
        ignore_index: int | None = None,
        target: str | int | None = None,
    ) -> None:
        super().__init__(inner)
        self.dim = whole_number("dim", dim)
        require_one_of("reducer", reducer, Reducer)
        self.reducer = reducer
        self.share = checked("share", share, Annotated[float, SHARE])
        if (ignore_index is None) != (target is None):
            raise ValueError(
                "ignore_index and target go together: which value, and where in the batch it is looked for"
            )
        self.ignore_index, self.target = ignore_index, target

    def find(self, step: TrainingStep) -> Views | None:
        """Return what the inner maker finds."""
        return self.inner.find(step)

    def observe(self, step: TrainingStep) -> Observation | None:
        """Return the reduced numbers of each sample."""
        views = self.logits(step, dim=self.dim, dense=True)
        if views is None:
            return None
        uncertainty = scores.pseudo_el2n(views.weak, dim=self.dim).flatten(1)  # (B, places)
        counts = self._counting_places(step, uncertainty)
        if counts is not None:
            views = _without_empty(views, counts)
        inconsistency = None
        if views.strong is not None:
            inconsistency = scores.symmetric_kl(views.weak, views.strong, dim=self.dim).flatten(1)
            inconsistency = self._reduce(inconsistency, counts)
        return to_observation(views, self._reduce(uncertainty, counts), inconsistency)

    def _counting_places(self, step: TrainingStep, values: Tensor) -> Tensor | None:
        """Return which places (B, places) count; None where all do."""
        if self.target is None or self.ignore_index is None:
            return None
        batch = step.batch
        is_there = self.target in batch if isinstance(batch, Mapping) else isinstance(self.target, int)
        if not is_there:
            keys = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
            raise KeyError(f"target={self.target!r} must be a key or position of the batch; it has {keys}")
        target: Tensor = batch[self.target]
        if target.numel() != values.numel():
            raise ValueError(
                f"target={self.target!r} has the shape {tuple(target.shape)}, but the predictions have {len(values)} "
                f"samples of {values.shape[1]} places; the target must have one number for each place"
            )
        return torch.ne(target.reshape(values.shape), self.ignore_index)

    def _reduce(self, values: Tensor, counts: Tensor | None) -> Tensor:
        """Reduce (B, places) to (B,); 0 where no place counts."""
        if counts is None:
            counts = torch.ones_like(values, dtype=torch.bool)
        number = counts.sum(1)
        if self.reducer == "top":
            largest = (
                values.masked_fill(~counts, -torch.inf).topk(math.ceil(self.share * values.shape[1]), dim=1).values
            )
            number = (self.share * number).ceil()
            counts = torch.arange(largest.shape[1], device=values.device) < number[:, None]
            values = largest
        return torch.where(counts, values, 0.0).sum(1) / number.clamp_min(1)


def _without_empty(views: Views, counts: Tensor) -> Views:
    """Leave samples out that have no place that counts."""
    index = torch.where(counts.any(1), views.index, NOTHING)
    return Views(index, views.weak, views.strong, views.features, views.labelled_index, views.labelled_features)
