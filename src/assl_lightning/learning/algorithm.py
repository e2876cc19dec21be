"""The base classes of the trainings: network, optimizer and logging; and, of an algorithm, test accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torchmetrics.classification import MulticlassStatScores

from assl_lightning.base.arguments import require_one_of
from assl_lightning.base.rules import checked
from assl_lightning.learning.fused_optimizers import make_optimizer
from assl_lightning.learning.image_predictions import ImagePredictions, TestedImages
from assl_lightning.learning.settings import WeightDecay, WeightDecayExempt
from assl_lightning.method.contracts import EvaluationBatch
from assl_lightning.networks.base import FeatureNetwork

MakeOptimizer = Callable[[Iterable[dict[str, Any]]], Optimizer]

_SINCE_LOGGED = "assl_lightning_since_logged"
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class TrainedNetwork(LightningModule):
    """A network with one optimizer and a log of its training; subclasses write `training_step`.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups, such as `functools.partial(torch.optim.SGD, lr=0.03)`.
        groups: the parameter groups.
    """

    can_be_captured: ClassVar[bool] = False
    """Whether `StepGraph` may capture a step once and replay it: a step is operations on tensors, no number of Python
    in it changes from step to step, all state is written in place, and of a batch it reads tensors only. It is not
    inherited: a class must say so itself."""

    def __init__(self, network: FeatureNetwork, *, optimizer: MakeOptimizer, groups: list[dict[str, Any]]) -> None:
        super().__init__()
        self.network = network
        self.optimizer_factory = optimizer
        self.groups = groups
        self._sums: dict[str, Tensor] = {}
        self._logged_steps = self._logged_batch_size = 0
        self.is_graphed = False  # a graph adds to the sums, always in the same memory, and its callback counts the step
        self.last_logged: dict[str, Tensor] = {}  # the means that were logged last, () each, by name

    def configure_optimizers(self) -> Optimizer:
        """Make the optimizer over the parameter groups; the learning rate is constant."""
        return make_optimizer(self.optimizer_factory, self.groups, self._trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums since the last logging, and what was logged then."""
        logged = dict(self.last_logged)
        sums = {name: total.clone() for name, total in self._sums.items()} if self._logged_steps else {}
        checkpoint[_SINCE_LOGGED] = {"sums": sums, "steps": self._logged_steps, "logged": logged}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums since the last logging, and what was logged then."""
        since = checkpoint.get(_SINCE_LOGGED, {"sums": {}, "steps": 0})
        self._sums, self._logged_steps = dict(since["sums"]), since["steps"]
        self.last_logged = dict(since.get("logged", {}))

    def log_step(self, values: Mapping[str, Tensor], batch_size: int) -> None:
        """Add () tensors to running sums, and log their means once every `log_every_n_steps`.

        One `log_dict` costs as much as a small training step, and a value that is read makes the host wait.
        """
        present = {name: value.detach() for name, value in values.items()}
        known = [name for name in present if name in self._sums]
        for name in known:
            if self._sums[name].device != present[name].device:  # a checkpoint's are on the CPU
                self._sums[name] = self._sums[name].to(present[name].device)
        if known:
            torch._foreach_add_([self._sums[name] for name in known], [present[name] for name in known])
        self._sums |= {name: value.clone() for name, value in present.items() if name not in known}
        self._logged_batch_size = batch_size
        if not self.is_graphed:
            self.count_step()

    def count_step(self) -> None:
        """Count a step whose values were added to the sums, and log the means where it is time."""
        self._logged_steps += 1
        interval = max(self.trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        if (self.trainer.global_step + 1) % interval == 0:
            means = {name: total / self._logged_steps for name, total in self._sums.items()}
            self.log_dict(means, batch_size=self._logged_batch_size)
            self.last_logged = means
            self._logged_steps = 0
            if self.is_graphed:
                torch._foreach_zero_(list(self._sums.values()))
            else:
                self._sums = {}


class Algorithm(TrainedNetwork):
    """A way to train a classifier on labelled and unlabelled images; subclasses write `training_step`.

    Args:
        network: gives logits, and features on request.
        optimizer: called once with the parameter groups, such as `functools.partial(torch.optim.SGD, lr=0.03)`.
        weight_decay: of the parameters that are not exempt, ≥ 0.
        weight_decay_exempt: which parameters do not decay; see `parameter_groups`.
        further_heads: heads beside the network's own, by the attributes that they become.
    """

    produces: ClassVar[frozenset[str]]
    """The products of the training steps that acquisition functions may need: {"statistics"} or nothing."""

    def __init__(
        self,
        network: FeatureNetwork,
        *,
        optimizer: MakeOptimizer,
        weight_decay: float = 0.0,
        weight_decay_exempt: WeightDecayExempt = "by_module",
        further_heads: Mapping[str, nn.Module] | None = None,
    ) -> None:
        heads = dict(further_heads or {})
        groups = parameter_groups(network, weight_decay, weight_decay_exempt)
        for head in heads.values():
            for group, more in zip(groups, parameter_groups(head, weight_decay, weight_decay_exempt), strict=True):
                group["params"] += more["params"]
        super().__init__(network, optimizer=optimizer, groups=groups)
        for name, head in heads.items():
            self.add_module(name, head)
        self._further_heads = tuple(heads)
        self.test_counts = self.new_counts()
        self._predictions = ImagePredictions()
        self.tested: TestedImages | None = None
        """The last test, by the raw weights; None where batches have no positions."""

    @property
    def needs_weight_ema(self) -> bool:
        """True if the fit must have a `WeightEMA`, whose averages training looks at."""
        return False

    @property
    def heads(self) -> dict[str, nn.Module]:
        """The modules that end in a row for each class, by their names; the first is the network's own."""
        return {"network.head": self.network.head, **{name: self.get_submodule(name) for name in self._further_heads}}

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, C) logits."""
        logits: Tensor = self.network(images)
        return logits

    def new_counts(self) -> MulticlassStatScores:
        """Make a metric of right and wrong answers by class; the label −1, which pads a batch, does not count."""
        return MulticlassStatScores(self.network.num_classes, average="none", ignore_index=-1, validate_args=False)

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Count right answers of the raw weights, and keep the predictions."""
        logits = self(batch["image"])
        self.test_counts.update(logits, batch["label"])
        if "position" in batch:
            self._predictions.update(logits, batch["position"], batch["label"])

    def on_validation_epoch_end(self) -> None:
        """Log `test_accuracy_raw` and `test_balanced_accuracy_raw`, in [0, 1]."""
        self.log_dict(accuracies_by_name(self.test_counts.compute(), "raw"), sync_dist=True)
        self.test_counts.reset()
        self.tested = self._predictions.take()


def parameter_groups(
    network: nn.Module, weight_decay: float, exempt: WeightDecayExempt = "by_module"
) -> list[dict[str, Any]]:
    """Divide the parameters into two groups for an optimizer: with and without weight decay.

    Args:
        exempt: "by_module" exempts every bias, the scales of every normalisation layer, and free vectors such as a
            ViT's class token and position embedding. "by_name" exempts parameters with "bias" or "bn" in their name:
            kekmodel's rule for its own WideResNet, for networks of yours with such names.

    Raises:
        ValueError: a negative `weight_decay`, or "by_name" for a network whose normalisation is not called "bn".
    """
    weight_decay = checked("weight_decay", weight_decay, WeightDecay)
    require_one_of("weight_decay_exempt", exempt, WeightDecayExempt)
    if exempt == "by_name":
        free = {name for name, _ in network.named_parameters() if "bias" in name or "bn" in name}
        _check_names(network, free)
    else:
        free = {name for name, _ in network.named_parameters() if _is_free(network, name)}
    parameters = dict(network.named_parameters())
    return [
        {"params": [value for name, value in parameters.items() if name not in free], "weight_decay": weight_decay},
        {"params": [value for name, value in parameters.items() if name in free], "weight_decay": 0.0},
    ]


def _check_names(network: nn.Module, free: set[str]) -> None:
    """Raise where the scale of a normalisation layer is not among the `free` names, so that it would decay."""
    norms = {name for name, module in network.named_modules() if isinstance(module, _NORMS)}
    scales = [name for name, _ in network.named_parameters() if name.rpartition(".")[0] in norms]
    decaying = [name for name in scales if name not in free]
    if decaying:
        raise ValueError(
            f"weight_decay_exempt='by_name' does not fit the names of {type(network).__name__}: {len(decaying)} scales "
            f"of its {len(norms)} normalisation layers would decay, such as {decaying[0]}; use 'by_module', which "
            f"exempts them whatever they are called, as kekmodel's rule does in kekmodel's network"
        )


def _is_free(network: nn.Module, name: str) -> bool:
    owner_name, _, leaf = name.rpartition(".")
    owner = network.get_submodule(owner_name)
    is_weight = leaf.startswith("weight") or leaf.endswith("_weight") or ".parametrizations." in f".{name}"
    return leaf.endswith("bias") or isinstance(owner, _NORMS) or not is_weight


def accuracies_by_name(counts: Tensor, weights: Literal["raw", "ema"]) -> dict[str, Tensor]:
    """Return accuracy and balanced accuracy (mean recall of the classes that occur), () each in [0, 1], by logged name.

    Args:
        counts: (C, 5) of `MulticlassStatScores`: true and false positives, true and false negatives, support.
        weights: which weights were tested; ends the names.

    >>> accuracies_by_name(torch.tensor([[3, 1, 0, 0, 3], [0, 0, 3, 1, 1]]), "raw")
    {'test_accuracy_raw': tensor(0.7500), 'test_balanced_accuracy_raw': tensor(0.5000)}
    """
    right, support = counts[:, 0], counts[:, 4]
    recall = right / support.clamp_min(1)  # a class that does not occur counts in neither sum
    return {
        f"test_accuracy_{weights}": right.sum() / support.sum(),
        f"test_balanced_accuracy_{weights}": recall.sum() / (support > 0).sum(),
    }


def mean_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the () mean cross-entropy in float32 of logits (B, C) and label (B,) int64."""
    return torch.nn.functional.cross_entropy(logits.float(), label)
