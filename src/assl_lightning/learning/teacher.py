"""A teacher: the averaged weights, whose predictions are pseudo-labels (Semi-ViT, Cai et al. 2022)."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.inference import evaluation_mode
from assl_lightning.learning.weight_ema import WeightEMA


class Teacher(nn.Module):
    """The network and the heads of an algorithm as one call, under the names that their parameters have there.

    It has no parameters of its own, and must be no part of the algorithm.

    Args:
        algorithm: whose averaged weights predict.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.network = algorithm.network
        self.heads = tuple(algorithm.heads)
        for name, head in list(algorithm.heads.items())[1:]:
            self.add_module(name, head)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, channels, height, width) → the logits (B, C) of each head, by name."""
        features = self.network.features(images)
        return {name: self.get_submodule(name)(features) for name in self.heads}

    @torch.no_grad()
    def predict(self, images: Tensor, weight_ema: WeightEMA) -> dict[str, Tensor]:
        """Return the same by the averaged weights of `weight_ema`, without a gradient and in evaluation mode.

        Batch norm alone normalises by the statistics of `images`, as in training: the running statistics are those of
        the trained weights, and do not fit to their average while these change fast. They stay as they are; a batch
        norm that is frozen keeps to them.
        """
        averages = {name: weight_ema.averages[name] for name, _ in self.named_parameters()}
        statistics = {name: buffer.clone() for name, buffer in self.named_buffers()}
        norms = [part for part in self.modules() if isinstance(part, _NormBase) and part.training]
        with evaluation_mode(self):
            for norm in norms:
                norm.training = True
            logits: dict[str, Tensor] = functional_call(self, averages | statistics, (images,))
        return logits


def weight_ema_of(trainer: Trainer | None) -> WeightEMA:
    """Return the callback that averages the weights of this fit.

    Raises:
        ValueError: there is none.
    """
    found = [] if trainer is None else [one for one in trainer.callbacks if isinstance(one, WeightEMA)]  # type: ignore[attr-defined]
    if not found:
        raise ValueError(
            "teacher=ema needs averaged weights: give the Trainer the callback WeightEMA, or a run algorithm.weight_ema"
        )
    return found[0]
