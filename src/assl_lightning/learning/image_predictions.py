"""Predicted class and confidence of each image of a test, gathered from all processes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class TestedImages(NamedTuple):
    """M tested images in the order of their positions, on the CPU."""

    position: Tensor  # (M,) int64, in the test set or among the held-out samples
    label: Tensor  # (M,) int64
    predicted: Tensor  # (M,) int64, the class of the largest logit
    confidence: Tensor  # (M,) float32 in [0, 1], the predicted class's probability


class ImagePredictions(Metric):
    """Keep what a network predicts for each image of a test.

    Images of position −1, which pad a batch, and of label −1 are left out.

    >>> predictions = ImagePredictions()
    >>> predictions.update(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([7, -1]), torch.tensor([0, -1]))
    >>> predictions.take().predicted
    tensor([1])
    """

    full_state_update = False
    position: list[Tensor]
    label: list[Tensor]
    predicted: list[Tensor]
    confidence: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in TestedImages._fields:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, position: Tensor, label: Tensor) -> None:
        """Add a batch: logits (B, C), position (B,) int64, label (B,) int64."""
        logits = logits.detach().float()
        predicted = logits.argmax(-1)  # of the probabilities, rounding could make it another one
        self.position.append(position)
        self.label.append(label)
        self.predicted.append(predicted)
        self.confidence.append(torch.softmax(logits, -1).gather(-1, predicted[:, None])[:, 0])

    def compute(self) -> TestedImages:
        """Return the images of all processes."""
        position, label, predicted, confidence = (
            dim_zero_cat(getattr(self, name)).cpu() for name in TestedImages._fields
        )
        known = ((position >= 0) & (label >= 0)).nonzero()[:, 0]
        order = known[position[known].argsort()]
        return TestedImages(position[order], label[order], predicted[order], confidence[order])

    def take(self) -> TestedImages | None:
        """Return the images of all processes and forget them; None if nothing was added."""
        if not self.update_called:
            return None
        found = TestedImages(*(column.reshape(-1) for column in self.compute()))  # a Metric squeezes a single image
        self.reset()
        return found
