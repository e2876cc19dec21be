"""ResNet-18 with a linear embedding, as the paper's experiments have it.

The trunk is torchvision's (He et al. 2016, "Deep residual learning for image recognition"), the embedding and the head
are those of ALFA-Mix (Parvaneh et al. 2022), whose layers the paper takes over.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet18

from assl_lightning.base.arguments import require_dropout, require_integers, require_one_of
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.batch_counts import counted_together

Stem = Literal["imagenet", "cifar"]

_TRUNK_DIM = 512


class ResNet18(FeatureNetwork):
    """torchvision's ResNet-18 trunk → Linear(512 → embedding_dim) without a non-linearity → Linear head.

    Args:
        num_classes: C.
        channels: of the images. Any number but 3 replaces the stem's convolution, initialised as torchvision's own.
        stem: "imagenet" is torchvision's 7×7 convolution of stride 2 and a max pool, what the paper ran: on 32-pixel
            images the last stage sees 1×1 maps. "cifar" is a 3×3 convolution of stride 1 and no pool: 15 times the work
            at 32 pixels, and the accuracies that people expect of a ResNet-18 on CIFAR.
        embedding_dim: d of the linear bottleneck; 0 and 512 leave it out, and the features are the trunk's 512.
        dropout: probability, before the embedding and before the head. Features are taken after the last dropout, so
            that logits are `head(features)` in training too.

    With 10 classes: 11,310,410 parameters, 11,181,642 without the bottleneck.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int = 3,
        stem: Stem = "imagenet",
        embedding_dim: int = 256,
        dropout: float = 0.0,
    ) -> None:
        require_integers(1, num_classes=num_classes, channels=channels)
        require_integers(0, embedding_dim=embedding_dim)
        require_dropout(dropout)
        require_one_of("stem", stem, Stem)
        has_embedding = embedding_dim not in (0, _TRUNK_DIM)
        feature_dim = embedding_dim if has_embedding else _TRUNK_DIM
        super().__init__(nn.Linear(feature_dim, num_classes), feature_dim, num_classes)

        self.trunk: nn.Module = resnet18(weights=None)
        self.trunk.fc = nn.Identity()
        if stem == "cifar":
            self.trunk.conv1 = _stem_convolution(channels, kernel_size=3, stride=1)
            self.trunk.maxpool = nn.Identity()
        elif channels != 3:
            self.trunk.conv1 = _stem_convolution(channels, kernel_size=7, stride=2)
        self.lay_out("channels_last")  # what a CPU's and a GPU's convolutions are fastest in

        self.embedding = nn.Sequential()  # an empty Sequential is the identity
        if has_embedding:
            self.embedding.append(nn.Dropout(dropout))
            self.embedding.append(nn.Linear(_TRUNK_DIM, embedding_dim))
        self.dropout = nn.Dropout(dropout)

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, d); non-negative only where there is no embedding."""
        with counted_together(self):
            trunk_features = self.trunk(self.laid_out(images))  # (B, 512)
        embedded: Tensor = self.dropout(self.embedding(trunk_features))  # (B, d)
        return embedded


def _stem_convolution(channels: int, kernel_size: int, stride: int) -> nn.Conv2d:
    """The stem's convolution to 64 maps, padded to keep the size at stride 1, with torchvision's initial weights."""
    convolution = nn.Conv2d(channels, 64, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
