"""Wide ResNet, the network that FixMatch was published with.

Zagoruyko & Komodakis 2016, "Wide residual networks" (the blocks); Sohn et al. 2020, "FixMatch" (28 layers, twice as
wide, leaky ReLU of slope 0.1, slowly moving batch statistics). Batch norm's momentum and the initial weights are those
of kekmodel/FixMatch-pytorch. That port feeds the first convolution of groups 2 and 3 their raw input, unnormalised;
here, as published, the first convolution of every block sees the normalised and activated input.
"""

from __future__ import annotations

from torch import Tensor, nn

from assl_lightning.base.arguments import require_dropout, require_integers
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.batch_counts import counted_together

_STEM_WIDTH = 16
_MOMENTUM = 0.001  # weight of the new batch in the running statistics
_SLOPE = 0.1


class WideResNet(FeatureNetwork):
    """Pre-activation residual network: stem of 16 maps, three groups of 16, 32 and 64 times `widen_factor`, mean, head.

    Args:
        num_classes: C.
        channels: of the images.
        depth: convolutions on the longest path, 6 · blocks per group + 4.
        widen_factor: maps of the last group = features d = 64 · widen_factor.
        dropout: probability, between the two convolutions of each block.

    28 layers, twice as wide, with 3 channels and 10 classes: 1,467,610 parameters.
    """

    def __init__(
        self, num_classes: int, channels: int = 3, depth: int = 28, widen_factor: int = 2, dropout: float = 0.0
    ) -> None:
        require_integers(1, num_classes=num_classes, channels=channels, widen_factor=widen_factor)
        require_integers(10, depth=depth)
        require_dropout(dropout)
        if (depth - 4) % 6:
            raise ValueError(f"depth must be 6 · blocks per group + 4, such as 10, 16, 22 or 28; got {depth}")
        blocks_per_group = (depth - 4) // 6
        widths = [_STEM_WIDTH * widen_factor * scale for scale in (1, 2, 4)]
        head = nn.Linear(widths[-1], num_classes)
        super().__init__(head, widths[-1], num_classes)

        self.stem = _convolution(channels, _STEM_WIDTH, kernel_size=3)
        self.blocks = nn.Sequential()
        width = _STEM_WIDTH
        for group, group_width in enumerate(widths):
            for position in range(blocks_per_group):
                stride = 2 if group > 0 and position == 0 else 1
                # the very first block's shortcut is activated too: as published, and the stem has no norm of its own
                is_first = group == 0 and position == 0
                self.blocks.append(_Block(width, group_width, stride, dropout, activate_shortcut=is_first))
                width = group_width
        self.final = nn.Sequential(_norm(width), _activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")
        nn.init.xavier_normal_(head.weight)
        nn.init.zeros_(head.bias)
        self.lay_out("channels_last")  # 1.25 times the steps a second on a CPU

    def features(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, 64 · widen_factor)."""
        with counted_together(self):
            maps = self.stem(self.laid_out(images))
            pooled: Tensor = self.final(self.blocks(maps))
        return pooled


class _Block(nn.Module):
    """Norm, activation, convolution, twice; plus the input, through a 1×1 convolution where its shape changes."""

    def __init__(self, width_in: int, width: int, stride: int, dropout: float, activate_shortcut: bool) -> None:
        super().__init__()
        self.activate_shortcut = activate_shortcut
        self.pre_activation = nn.Sequential(_norm(width_in), _activation())
        self.residual = nn.Sequential(
            _convolution(width_in, width, kernel_size=3, stride=stride),
            _norm(width),
            _activation(),
            nn.Dropout(dropout),
            _convolution(width, width, kernel_size=3),
        )
        keeps_shape = width_in == width and stride == 1
        self.shortcut = nn.Identity() if keeps_shape else _convolution(width_in, width, kernel_size=1, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        activated = self.pre_activation(maps)
        shortcut = self.shortcut(activated if self.activate_shortcut else maps)
        total: Tensor = shortcut + self.residual(activated)
        return total


def _convolution(width_in: int, width: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, momentum=_MOMENTUM)


def _activation() -> nn.LeakyReLU:
    return nn.LeakyReLU(_SLOPE, inplace=True)
