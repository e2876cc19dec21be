"""`observe.dense`: networks that predict a class for each pixel, voxel or token of a sample."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from torch import Tensor

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.rules import SHARE, checked
from assl_lightning.method import reducers
from assl_lightning.method.contracts import Observation, TrainingStep
from assl_lightning.method.observers import ViewObserver
from assl_lightning.method.statistics import NOTHING
from assl_lightning.method.view_scores import to_observation
from assl_lightning.observe.places import OfBatch, PlaceObserver, Places

Reducer = Literal["mean", "top", "per_class"]
"""From the numbers of a sample's places to one; see `method/reducers.py`."""


class dense(PlaceObserver):  # noqa: N801
    """Score each pixel, voxel or token by Eq. 1 and 4, and reduce the numbers of a sample to one.

    For torchgeo's SemanticSegmentationTask, segmentation_models_pytorch, torchvision's segmentation, and taggers of
    tokens: the logits are (B, C, H, W), or have their classes along another axis. Both views must lie alike: where a
    strong view was cut or mirrored, the predictions must have been brought back (`undo` of `second_view`).

    Args:
        inner: the maker that finds the logits.
        dim: the classes' axis.
        reducer: "mean" of a sample's places; "top": the mean of its `share` of largest numbers, for small objects;
            "per_class": the mean over the classes that the weak view predicts of each class's mean, for rare ones.
        share: of the places that "top" takes, in (0, 1].
        ignore_index: places where `target` has this value do not count; a sample without any other is left out.
        target: where the targets (B, H, W) lie in the batch that `ignore_index` is looked for in: key, position, or a
            function of the batch.

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
        target: OfBatch | None = None,
    ) -> None:
        super().__init__(inner, dim, ignore_index, target)
        require_one_of("reducer", reducer, Reducer)
        self.reducer = reducer
        self.share = checked("share", share, Annotated[float, SHARE])

    def observe(self, step: TrainingStep) -> Observation | None:
        """Return the reduced numbers of each sample."""
        places = self.places(step)
        if places is None:
            return None
        views = places.views
        if places.counts is not None:
            views = replace(views, index=torch.where(places.counts.any(1), views.index, NOTHING))
        inconsistency = None if places.inconsistency is None else self._reduce(places.inconsistency, places)
        return to_observation(views, self._reduce(places.uncertainty, places), inconsistency)

    def _reduce(self, values: Tensor, places: Places) -> Tensor:
        if self.reducer == "top":
            return reducers.top_share(values, self.share, places.counts)
        if self.reducer == "per_class":
            weak = places.views.weak
            classes = weak.argmax(self.dim).flatten(1)
            return reducers.per_class(values, classes, weak.shape[self.dim], places.counts)
        return reducers.mean(values, places.counts)
