"""Pseudo-labels by the averaged weights: the rule in float64, and its laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.settings import TeacherWeights
from assl_lightning.learning.weight_ema import WeightEMA
from assl_lightning.networks.base import FeatureNetwork
from assl_lightning.networks.small import SmallCNN
from tests.learning import contract
from tests.stripes import CLASSES, SGD, make_datamodule

THRESHOLD, DECAY, STEPS = 0.7, 0.9, 50
BOTH: tuple[TeacherWeights, ...] = ("student", "ema")


class State(NamedTuple):
    """What a step begins with and leaves, by name, in float64."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    velocity: dict[str, Tensor]  # SGD's; empty before the first step


class Watch(Callback):
    """Keeps the batches of a fit, and the state before and after each step; the last of its callbacks."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.states: list[State] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.states.append(self.state(trainer, module))

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        self.states.append(self.state(trainer, module))

    @staticmethod
    def state(trainer: Any, module: Any) -> State:
        (average,) = (one.averages for one in trainer.callbacks if isinstance(one, WeightEMA))
        kept = trainer.optimizers[0].state
        velocity = {name: kept[weight].get("momentum_buffer") for name, weight in module.named_parameters()}
        return State(
            *(
                {name: value.detach().double().clone() for name, value in values.items() if value is not None}
                for values in (dict(module.named_parameters()), average, velocity)
            )
        )


def train(learner: FixMatch, *callbacks: Callback, steps: int = STEPS) -> FixMatch:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=5,
    )
    trainer.fit(learner, datamodule=make_datamodule(contract.make_data().pool, steps_per_round=steps, seed=1))
    return learner


def logits_of(weights: dict[str, Tensor], images: Tensor) -> Tensor:
    """The plain network of the contract."""
    hidden = F.linear(images.double().flatten(1), weights["network.body.1.weight"], weights["network.body.1.bias"])
    return F.linear(hidden.relu(), weights["network.head.weight"], weights["network.head.bias"])


def step_by_the_rule(begin: State, batch: Any) -> tuple[State, Tensor]:
    """One step of FixMatch with a teacher, SGD with Nesterov's momentum and weight decay; also the confidences."""
    weights = {name: value.clone().requires_grad_() for name, value in begin.weights.items()}
    confidence, label = logits_of(begin.average, batch["weak"]).softmax(-1).max(-1)
    unlabelled = F.cross_entropy(logits_of(weights, batch["strong"]), label, reduction="none")
    loss = F.cross_entropy(logits_of(weights, batch["labelled_image"]), batch["label"])
    loss = loss + ((confidence >= THRESHOLD) * unlabelled).mean()
    gradients = torch.autograd.grad(loss, list(weights.values()))
    velocity, after, average = {}, {}, {}
    for (name, weight), slope in zip(begin.weights.items(), gradients, strict=True):
        full = slope + (5e-4 * weight if name.endswith("weight") else 0)
        velocity[name] = 0.9 * begin.velocity[name] + full if name in begin.velocity else full
        after[name] = weight - 0.05 * (full + 0.9 * velocity[name])
        average[name] = DECAY * begin.average[name] + (1 - DECAY) * after[name]
    return State(after, average, velocity), confidence


def test_each_of_fifty_steps_is_that_of_the_rule() -> None:
    """Step by step: over several, a confidence next to the threshold would be on its other side elsewhere."""
    learner = FixMatch(contract.make_network(), optimizer=SGD, threshold=THRESHOLD, teacher="ema")
    watch = Watch()
    train(learner, WeightEMA(DECAY), watch)
    assert len(watch.batches) == STEPS
    rates, compared = [], 0
    for before, batch, after in zip(watch.states, watch.batches, watch.states[1:], strict=False):
        expected, confidence = step_by_the_rule(before, batch)
        rates.append((confidence >= THRESHOLD).double().mean().item())
        if bool(((confidence - THRESHOLD).abs() > 1e-4).all()):
            compared += 1
            for found, wanted in zip(after, expected, strict=True):
                for name, value in wanted.items():
                    torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    assert compared > 0.8 * STEPS
    assert 0.05 < sum(rates) / STEPS < 0.95, "or the threshold is not tested"
    student = train(FixMatch(contract.make_network(), optimizer=SGD, threshold=THRESHOLD), WeightEMA(DECAY))
    apart = (student.state_dict()["network.head.weight"] - learner.state_dict()["network.head.weight"]).abs().max()
    assert apart > 0.05, "or a student would pass"


def test_with_a_decay_of_zero_the_teacher_is_the_student() -> None:
    one, two = (
        train(FixMatch(contract.make_network(), optimizer=SGD, threshold=THRESHOLD, teacher=teacher), WeightEMA(0.0))
        for teacher in BOTH
    )
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def small_cnn() -> FeatureNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallCNN(CLASSES, width=4)


def test_it_changes_nothing_of_the_student_but_by_its_labels() -> None:
    """Where no pseudo-label counts, weights and running statistics of batch norm are those without a teacher."""
    students = [
        train(FixMatch(small_cnn(), optimizer=SGD, lambda_u=0.0, teacher=teacher), WeightEMA(DECAY), steps=10)
        for teacher in BOTH
    ]
    for name, value in students[0].state_dict().items():
        assert torch.equal(students[1].state_dict()[name], value), name


def test_it_predicts_with_the_averaged_weights_and_the_statistics_of_its_batch() -> None:
    learner = FixMatch(small_cnn(), optimizer=SGD, teacher="ema", balanced_head=True)
    weight_ema = WeightEMA(DECAY)
    train(learner, weight_ema, steps=5)
    learner.train()
    modes = [module.training for module in learner.modules()]
    images = torch.randn(7, 1, 8, 8)
    (teacher,) = learner._teacher
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    found = teacher.predict(images, weight_ema)
    assert [module.training for module in learner.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    averaged = weight_ema.averaged(learner).train()  # this network has no other part with a mode than batch norm
    with torch.no_grad():
        features = averaged.network.features(images)
        torch.testing.assert_close(found["network.head"], averaged.network.head(features))
        torch.testing.assert_close(found["judging_head"], averaged.get_submodule("judging_head")(features))
        assert not torch.allclose(found["network.head"], learner.train()(images)), "or it has the student's weights"
    assert not any(logits.requires_grad for logits in found.values())


def test_what_is_random_or_frozen_in_training_is_as_in_a_test() -> None:
    network = small_cnn()
    network.head = torch.nn.Sequential(torch.nn.Dropout(0.5), network.head)
    learner, weight_ema = FixMatch(network, optimizer=SGD, teacher="ema"), WeightEMA(DECAY)
    train(learner, weight_ema, steps=2)
    learner.train()
    norms = [part for part in learner.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    images = torch.randn(7, 1, 8, 8)
    (teacher,) = learner._teacher
    found = teacher.predict(images, weight_ema)["network.head"]
    assert norms
    assert not any(norm.training for norm in norms)
    assert torch.equal(found, teacher.predict(images, weight_ema)["network.head"]), "or dropout drew"
    with torch.no_grad():
        torch.testing.assert_close(found, weight_ema.averaged(learner).eval()(images))


def test_it_is_no_part_of_a_checkpoint() -> None:
    plain, taught = (FixMatch(small_cnn(), optimizer=SGD, teacher=teacher) for teacher in BOTH)
    assert plain.state_dict().keys() == taught.state_dict().keys()
    assert [name for name, _ in plain.named_modules()] == [name for name, _ in taught.named_modules()]


def test_without_averaged_weights_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teacher=ema needs averaged weights: give the Trainer the callback WeightEMA"):
        train(FixMatch(small_cnn(), optimizer=SGD, teacher="ema"))


def test_another_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="teacher must be one of student, ema; got 'mean'"):
        FixMatch(small_cnn(), optimizer=SGD, teacher="mean")  # type: ignore[arg-type]
