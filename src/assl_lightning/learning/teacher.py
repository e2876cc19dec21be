"""A teacher: the averaged weights in evaluation mode, whose predictions are pseudo-labels (Cai et al. 2022)."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.func import functional_call

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

        Batch norm takes the running statistics of the trained network, as in a test, and they do not change.
        """
        averages = {name: weight_ema.averages[name] for name, _ in self.named_parameters()}
        with evaluation_mode(self):
            logits: dict[str, Tensor] = functional_call(self, averages, (images,))
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
