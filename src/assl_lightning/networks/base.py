"""The contract of a network: logits, and the features that its last linear layer sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from assl_lightning.networks.settings import MemoryFormat

_FORMATS: Mapping[str, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


class FeatureNetwork(nn.Module, ABC):
    """A classifier whose logits are `head(features(images))`.

    Attributes:
        head: the classifier, (…, d) → (…, C); acquisition functions may call it on features of their own making.
        feature_dim: d.
        num_classes: C.
        samples_are_independent: True if a sample's features depend on no other sample of its batch in training, as
            they do with batch norm. FixMatch then computes the weak views without a gradient.
        memory_format: of images that `laid_out` returns, and on CUDA of a step's views; "auto": as they come.
    """

    samples_are_independent: ClassVar[bool] = False
    memory_format: MemoryFormat = "auto"

    def __init__(self, head: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.head = head
        self.feature_dim = feature_dim
        self.num_classes = num_classes

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, d), the tensor that is fed to `head`."""

    def lay_out(self, memory_format: MemoryFormat) -> None:
        """Order the weights of convolutions in memory, and images from now on; "auto": leave them as they are."""
        if memory_format != "auto":
            self.to(memory_format=_FORMATS[memory_format])
            self.memory_format = memory_format

    def laid_out(self, images: Tensor) -> Tensor:
        """Return the images in the memory format of the weights."""
        if self.memory_format == "auto":
            return images
        return images.contiguous(memory_format=_FORMATS[self.memory_format])

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, C) logits."""
        logits: Tensor = self.head(self.features(images))
        return logits
