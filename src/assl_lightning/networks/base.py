"""The contract of a network: logits, and the features that its last linear layer sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn


class FeatureNetwork(nn.Module, ABC):
    """A classifier whose logits are `head(features(images))`.

    Attributes:
        head: the classifier, (…, d) → (…, C); acquisition functions may call it on features of their own making.
        feature_dim: d.
        num_classes: C.
        samples_are_independent: True if a sample's features depend on no other sample of its batch in training, as
            they do with batch norm. FixMatch then computes the weak views without a gradient.
    """

    samples_are_independent: ClassVar[bool] = False

    def __init__(self, head: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.head = head
        self.feature_dim = feature_dim
        self.num_classes = num_classes

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, d), the tensor that is fed to `head`."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, C) logits."""
        logits: Tensor = self.head(self.features(images))
        return logits
