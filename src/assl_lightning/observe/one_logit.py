"""`observe.binary`: networks with one logit for each sample, or pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assl_lightning.base.arguments import whole_number
from assl_lightning.method.contracts import TrainingStep
from assl_lightning.method.observers import ViewObserver
from assl_lightning.method.view_scores import Views, as_logits
from assl_lightning.observe.around import AroundViews
from assl_lightning.observe.hooked_views import HookedViews


class binary(AroundViews):  # noqa: N801
    """Read one logit z as the logits (0, z) of two classes, whose softmax is the sigmoid of z.

    For networks that end in one output and train with `BCEWithLogitsLoss`: torchgeo's tasks with `task="binary"`,
    segmentation_models_pytorch with `classes=1`, anomaly and quality control. With `from_probabilities` of the inner
    maker the output is a probability, as after a sigmoid; a part that ends in `nn.Sigmoid` is refused without.

    Args:
        inner: the maker that finds the outputs, (B,) or (B, 1), or in a dense task (B, 1, H, W).
        dim: the axis of length 1, which becomes the classes'.

    >>> from assl_lightning import observe
    >>> observe.binary(observe.forward("model", weak=0)).dim
    1
    """

    def __init__(self, inner: ViewObserver, dim: int = 1) -> None:
        super().__init__(inner)
        self.from_probabilities = False  # `find` gives logits
        self.dim = whole_number("dim", dim)

    def find(self, step: TrainingStep) -> Views | None:
        """Return the logits of two classes."""
        views = self.inner.find(step)
        if views is None:
            return None
        weak = self._two_classes("logits_weak", views.weak, step.is_first)
        strong = None if views.strong is None else self._two_classes("logits_strong", views.strong, step.is_first)
        return views.with_predictions(weak, strong)

    def _two_classes(self, name: str, value: Tensor, is_first: bool) -> Tensor:
        value = value.unsqueeze(1) if value.ndim == 1 else value
        if not -value.ndim <= self.dim < value.ndim or value.shape[self.dim] != 1:
            raise ValueError(
                f"'{name}' must have one logit for each sample, (B,) or (B, 1); got shape {tuple(value.shape)}, and "
                f"dim={self.dim}. With two or more classes leave observe.binary out"
            )
        if not self.inner.from_probabilities:
            if is_first and isinstance(self.inner, HookedViews) and self.inner.ends_in(nn.Sigmoid):
                raise ValueError(
                    f"'{name}' must be logits, and comes from a network that ends in a Sigmoid; say so: "
                    f"observe.binary(observe.forward('model', from_probabilities=True)), or the same argument of "
                    f"another maker"
                )
            return torch.cat([torch.zeros_like(value), value], self.dim)
        if is_first and not bool(((value >= 0) & (value <= 1)).all()):
            raise ValueError(
                f"'{name}' should be probabilities, as from_probabilities=True says, and lies in "
                f"[{float(value.min()):.3g}, {float(value.max()):.3g}] in the first batch; leave it out for logits"
            )
        wide = value if value.dtype == torch.float64 else value.float()
        return as_logits(torch.cat([1 - wide, wide], self.dim))
