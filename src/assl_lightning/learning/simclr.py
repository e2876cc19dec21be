"""SimCLR (Chen et al. 2020): two views of an image are to be near one another, and far from all other images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from assl_lightning.base.rules import checked
from assl_lightning.learning.algorithm import MakeOptimizer, TrainedNetwork, parameter_groups
from assl_lightning.learning.settings import PairBatchSize, Steps, Temperature, WeightDecay, Width
from assl_lightning.learning.view_pairs import ViewPairs
from assl_lightning.method.contracts import StepOutput
from assl_lightning.networks.base import FeatureNetwork


class SimCLR(TrainedNetwork):
    """SimCLR as a LightningModule: it trains the features of a network on images alone, and leaves its head as it is.

    Both views of all images pass the network in one forward, so that batch norm sees them together: on each device, or
    over all of them with `trainer.sync_batchnorm`. A projection head, Linear → ReLU → Linear, stands between features
    and loss, and is thrown away afterwards. The learning rate is constant.

    Args:
        network: gives features on request; those of its parameters that are no part of the head are trained.
        optimizer: called once with the parameter groups, such as `functools.partial(torch.optim.Adam, lr=1e-3)`.
        steps: optimizer steps, ≥ 1.
        batch_size: images in a step over all devices, ≥ 2, with two views of each; at most those that there are.
        temperature: τ > 0 of the loss; small values push the nearest of the other images away.
        hidden_width: width of the projection head's hidden layer.
        projection_width: width of its output, in which the views are compared.
        weight_decay: of the weights; biases and the scales of normalisation layers do not decay.

    Raises:
        ValueError: no parameter of the network but those of its head is trained.

    >>> from functools import partial
    >>> from assl_lightning.networks.small import SmallCNN
    >>> simclr = SimCLR(SmallCNN(10), optimizer=partial(torch.optim.Adam, lr=1e-3))
    >>> simclr.project(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 64])
    """

    can_be_captured = True

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        steps: int = 800,
        batch_size: int = 128,
        temperature: float = 0.5,
        hidden_width: int = 128,
        projection_width: int = 64,
        weight_decay: float = 0.0,
    ) -> None:
        widths = checked("hidden_width", hidden_width, Width), checked("projection_width", projection_width, Width)
        projection = _make_projection(network.feature_dim, *widths)
        groups = _trained_groups(network, projection, checked("weight_decay", weight_decay, WeightDecay))
        super().__init__(network, optimizer=optimizer, groups=groups)
        self.steps: int = checked("steps", steps, Steps)
        self.batch_size: int = checked("batch_size", batch_size, PairBatchSize)
        self.temperature: float = checked("temperature", temperature, Temperature)
        self.projection = projection
        of_head = [f"network.head.{name}" for name in network.head.state_dict()]
        # DDP would wait for gradients of the head, which gets none
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, of_head)

    def project(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, projection_width), which the loss compares."""
        projected: Tensor = self.projection(self.network.features(images))
        return projected

    def training_step(self, batch: ViewPairs, batch_idx: int) -> StepOutput:
        """One step: the loss over the pairs of all devices."""
        first, second = self.project(torch.cat([batch["first"], batch["second"]])).chunk(2)
        loss = nt_xent(self._of_all_devices(first), self._of_all_devices(second), temperature=self.temperature)
        self.log_step({"loss": loss}, batch_size=len(batch["index"]))
        return {"loss": loss, "index": batch["index"]}

    def _of_all_devices(self, rows: Tensor) -> Tensor:
        """Return the rows of all devices, in their order: each device computes the whole loss.

        In the backward pass the gradients of all these losses are summed for each device's rows, and DDP takes the mean
        over the devices, so that the sum is that of one loss.
        """
        if self.trainer.world_size == 1:
            return rows
        gathered = self.all_gather(rows, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)


def nt_xent(first: Tensor, second: Tensor, *, temperature: float = 0.5) -> Tensor:
    """Return the () normalised temperature-scaled cross-entropy of B pairs of views, ≥ 0 (Chen et al. 2020, Eq. 1).

    The mean over the 2B views of −log exp(s_ij / τ) / Σ_{k ≠ i} exp(s_ik / τ): j is the other view of view i, k runs
    over the 2B − 1 views that are not i, and s is the cosine similarity. In float32, under autocast too.

    Args:
        first: (B, d), of one view of each image.
        second: (B, d), of the other, in the same order.
        temperature: τ > 0.

    >>> nt_xent(torch.eye(2), torch.eye(2), temperature=0.5)  # ln(1 + 2 exp(−2))
    tensor(0.2395)
    """
    with torch.autocast(first.device.type, enabled=False):
        unit = F.normalize(torch.cat([first, second]).float(), dim=-1)
        similarity = unit @ unit.T / temperature  # s / τ
        itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        partner = torch.arange(len(unit), device=unit.device).roll(len(first))
        return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


def _make_projection(feature_dim: int, hidden_width: int, projection_width: int) -> nn.Module:
    """Make the projection head: Chen et al. 2020, §2.1, without batch norm."""
    return nn.Sequential(
        nn.Linear(feature_dim, hidden_width), nn.ReLU(inplace=True), nn.Linear(hidden_width, projection_width)
    )


def _trained_groups(network: FeatureNetwork, projection: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the parameters of the features and of the projection, with and without weight decay.

    Raises:
        ValueError: none of the features is trained.
    """
    of_head = {id(parameter) for parameter in network.head.parameters()}
    trained = {id(parameter) for parameter in network.parameters() if parameter.requires_grad} - of_head
    if not trained:
        raise ValueError(
            f"the features of {type(network).__name__} have no parameter that can be trained before the first label; "
            f"choose another network, or warm_up=none"
        )
    trained |= {id(parameter) for parameter in projection.parameters()}
    groups = parameter_groups(nn.ModuleDict({"network": network, "projection": projection}), weight_decay)
    return [group | {"params": [value for value in group["params"] if id(value) in trained]} for group in groups]
