"""What a network and a learning algorithm of the user's own must have, told before a run begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from assl_lightning.learning.accepting import as_feature_network, check_algorithm
from assl_lightning.learning.algorithm import Algorithm
from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.small import SmallCNN
from tests.stripes import CLASSES, SGD

SHAPE = (1, 8, 8)


def network() -> FeatureNetwork:
    return SmallCNN(CLASSES, width=4)


class Plain(Algorithm):
    """The least that an algorithm needs."""

    produces = frozenset()

    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__(network, optimizer=SGD)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self(batch["labelled_image"]).sum()}


class ExtraTest(Plain):
    def on_validation_epoch_start(self) -> None:
        self.calls = 1

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.calls += 1

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("calls", self.calls)


class NeedsTrainer(Plain):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("step", self.trainer.global_step)


@pytest.mark.parametrize("kind", [Plain, ExtraTest, NeedsTrainer])
def test_a_module_that_the_loop_can_train_and_test_is_accepted(kind: type[Plain]) -> None:
    made = kind(network())
    check_algorithm(made, SHAPE)
    assert "log" not in vars(made)
    assert "log_dict" not in vars(made)


def test_those_of_the_package_are_accepted() -> None:
    check_algorithm(FixMatch(network(), optimizer=SGD), SHAPE)


class Foreign(LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return batch[0].sum()


class WithoutProducts(Algorithm):
    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__(network, optimizer=SGD)


class OtherProducts(Plain):
    produces = frozenset({"logits"})


class NoStep(WithoutProducts):
    produces = frozenset()


class NoNetwork(Plain):
    def __init__(self, network: FeatureNetwork) -> None:
        super().__init__(network)
        del self.network
        self.network = nn.Linear(2, 2)  # type: ignore[assignment]


class NoOptimizer(Plain):
    def configure_optimizers(self) -> Any:
        return None


class PairsTest(Plain):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self(images).argmax(-1) == labels).float().mean())


class OwnName(Plain):
    def on_validation_epoch_end(self) -> None:
        self.log("accuracy", self.test_counts.compute().sum())


class OtherForward(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).argmax(-1)


class NoLogits(Plain):
    def forward(self, images: Tensor) -> Any:
        return None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch["image"])


REFUSED: list[tuple[Any, str]] = [
    (
        Foreign,
        "make_algorithm must return a subclass of assl_lightning.learning.Algorithm, .*; got Foreign, a "
        r"LightningModule of another kind: derive it from Algorithm, give it `produces` and a training_step .*docs/y",
    ),
    (lambda: None, "make_algorithm must return a subclass .*; got None: derive it"),
    (lambda: WithoutProducts(network()), r"WithoutProducts\.produces must be frozenset\(\), or .*; got None; docs"),
    (lambda: OtherProducts(network()), r"OtherProducts\.produces must be .*; got frozenset\(\{'logits'\}\); docs"),
    (lambda: NoStep(network()), r"NoStep must have a training_step\(batch, batch_idx\) that returns the loss"),
    (
        lambda: NoNetwork(network()),
        r"NoNetwork\.network must be the network that make_algorithm was given; got (Linear|Sequential)",
    ),
    (lambda: NoOptimizer(network()), r"NoOptimizer\.configure_optimizers must return an optimizer; it returns None"),
    (
        lambda: PairsTest(network()),
        r"PairsTest cannot be tested: its validation_step gets a dictionary with image \(B, channels, height, width\) "
        r"and label \(B,\); it raises (AttributeError|TypeError|ValueError|RuntimeError): ",
    ),
    (
        lambda: OwnName(network()),
        r"OwnName\.on_validation_epoch_end must log test_accuracy_raw and test_balanced_accuracy_raw, which the "
        r"records of the run hold; call super\(\)",
    ),
    (lambda: OtherForward(network()), r"cannot be tested|OtherForward\.forward must give logits of shape \(2, 3\)"),
    (lambda: NoLogits(network()), r"NoLogits\.forward must give logits of shape \(2, 3\) for 2 images; got None"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_what_the_loop_could_not_train_or_test_is_refused_in_one_sentence(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        check_algorithm(make(), SHAPE)
    assert "\n" not in str(caught.value)


def test_any_classifier_becomes_a_feature_network() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    images = torch.randn(2, *SHAPE)
    expected = plain(images)
    made = as_feature_network(plain, CLASSES, SHAPE)
    assert made.feature_dim == 5
    torch.testing.assert_close(made(images), expected)
    assert as_feature_network(made, CLASSES, SHAPE) is made
    with pytest.raises(TypeError, match=r"make_network must return an nn\.Module that gives logits; got None"):
        as_feature_network(None, CLASSES, SHAPE)
    with pytest.raises(ValueError, match="the network must have 4 classes, as the data; SmallCNN has 3"):
        as_feature_network(network(), 4, SHAPE)
