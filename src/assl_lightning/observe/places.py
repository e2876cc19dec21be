"""The base of `dense` and `regions`: Eq. 1 and 4 for each pixel, voxel or token, and which of them count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assl_lightning.base.arguments import whole_number
from assl_lightning.method import scores
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.observers import ViewObserver
from assl_lightning.method.view_scores import Views
from assl_lightning.observe.around import AroundViews

OfBatch = str | int | Callable[[Any], Tensor]
"""Where something lies in a batch: its key, its position, or a function of the batch that returns it."""


@dataclass(frozen=True)
class Places:
    """The two numbers of each place of a batch."""

    views: Views
    uncertainty: Tensor  # (B, P)
    inconsistency: Tensor | None  # (B, P)
    counts: Tensor | None  # (B, P) bool; None: all places count
    shape: tuple[int, ...]  # the places' axes, such as (H, W), whose product is P


class PlaceObserver(AroundViews):
    """An observer of predictions for each place of a sample.

    Args:
        inner: the maker that finds the logits.
        dim: the classes' axis.
        ignore_index: places where `target` has this value do not count; a sample without any other is left out.
        target: where the targets (B, H, W) lie in the batch that `ignore_index` is looked for in: key, position, or a
            function of the batch.
    """

    def __init__(self, inner: ViewObserver, dim: int, ignore_index: int | None, target: OfBatch | None) -> None:
        super().__init__(inner)
        self.dim = whole_number("dim", dim)
        if (ignore_index is None) != (target is None):
            raise ValueError(
                "ignore_index and target go together: which value, and where in the batch it is looked for"
            )
        self.ignore_index, self.target = ignore_index, target

    def find(self, step: TrainingStep) -> Views | None:
        """Return what the inner maker finds."""
        return self.inner.find(step)

    def places(self, step: TrainingStep) -> Places | None:
        """Return the two numbers of each place of a step."""
        views = self.logits(step, dim=self.dim, dense=True)
        if views is None:
            return None
        of_places = scores.pseudo_el2n(views.weak, dim=self.dim)  # (B, …)
        shape = tuple(of_places.shape[1:])
        inconsistency = None
        if views.strong is not None:
            inconsistency = scores.symmetric_kl(views.weak, views.strong, dim=self.dim).flatten(1)
        counts = None
        if self.target is not None and self.ignore_index is not None:
            target = of_batch("target", self.target, step.batch)
            if target.numel() != of_places.numel():
                raise ValueError(
                    f"target={self.target!r} has the shape {tuple(target.shape)}, but the predictions have "
                    f"{len(of_places)} samples of {of_places[0].numel()} places; the target must have one number for "
                    f"each place"
                )
            counts = torch.ne(target.reshape(len(of_places), -1), self.ignore_index)
        return Places(views, of_places.flatten(1), inconsistency, counts, shape)


def of_batch(name: str, where: OfBatch, batch: Any) -> Tensor:
    """Return what lies somewhere in a batch; `name` is the argument that says where, for the error."""
    if callable(where):
        return where(batch)
    is_there = where in batch if isinstance(batch, Mapping) else isinstance(where, int)
    if not is_there:
        keys = ", ".join(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise KeyError(f"{name}={where!r} must be a key or position of the batch; it has {keys}")
    found: Tensor = batch[where]
    return found
