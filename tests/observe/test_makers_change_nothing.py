"""With the callback and any maker a training leaves the weights, buffers, modes and generators as without."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assl_lightning import ASSLScoreCallback, IndexedDataset, Observation, observe, scores
from tests.observe.fits import Module, N, Network, assert_same_state, fit, pool, state_of


def noisy(images: Tensor) -> Tensor:
    """A view that draws from every generator there is."""
    return images + 0.1 * torch.randn_like(images) + random.random() + float(np.random.rand())


class Restless(Network):
    """Every call moves what the next one's output depends on, in evaluation mode, too; and it draws."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body[0] = nn.utils.parametrizations.spectral_norm(self.body[0])
        self.register_buffer("average", torch.zeros(()))
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.average = 0.9 * self.average + x.detach().mean()  # another tensor under the buffer's name
        self.latest = x
        drawn = torch.rand(()) + random.random() + float(np.random.rand())
        logits: Tensor = super().forward(x * (1 + 0.01 * self.count) + self.average) + 0.1 * drawn
        return logits


class Student(Module):
    """Calls of every kind: a joint one, one for each view, a teacher's, and outputs under the three keys."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Restless()
        self.teacher = Restless()
        self.head = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        joint = self.model(torch.cat([x, x + 0.1, x + 0.2]))
        with torch.no_grad():
            teacher = self.teacher(x)
        z = self.model(x)
        loss = nn.functional.cross_entropy(z, y) + joint.square().mean() + (z - teacher).square().mean()
        dense = z[:, :, None] + torch.zeros(3)
        self.head(z)
        return {"loss": loss, "logits_weak": z, "logits_strong": teacher, "dense": dense.detach()}


def own_function(outputs: Any, batch: Any, module: Any, index: Tensor) -> Observation:
    """What examples/custom_observe.py does: passes in the user's own function."""
    x = batch[0]
    return Observation(
        index, scores.entropy(module.model(x)), scores.symmetric_kl(module.model(noisy(x)), module.model(x))
    )


MAKERS: dict[str, Callable[[], Any]] = {
    "keys": observe.keys,
    "forward": lambda: observe.forward("model", 0, 1, rows="first", head="model.fc"),
    "split": lambda: observe.split("model", ["labelled", "weak", "strong"], features="model.body"),
    "teacher_student": lambda: observe.teacher_student("teacher", "model", student_call=1),
    "second_view": lambda: observe.second_view("model", noisy, call=1, every=2),
    "dense": lambda: observe.dense(observe.second_view("model.body", noisy, call=1)),
    "regions": lambda: observe.regions(observe.second_view("model.body", noisy, call=1), 2, 2),
    "binary": lambda: observe.binary(observe.forward("head", 0)),
    "own function": lambda: own_function,
}


def test_every_maker_is_here() -> None:
    elsewhere = {"detections"}  # test_detections.py
    assert {*observe.__all__} - {"side_pass", "mirror"} - elsewhere == MAKERS.keys() - {"own function"}


class ByHand(Student):
    """Two optimizers, each stepped by the module itself, which returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        self.manual_backward(super().training_step(batch, batch_idx)["loss"])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.model.parameters(), lr=0.05), torch.optim.Adam(self.head.parameters())]


TRAININGS: dict[str, tuple[type[Student], dict[str, Any]]] = {
    "plain": (Student, {}),
    "mixed precision": (Student, {"precision": "bf16-mixed"}),
    "accumulated gradients": (Student, {"accumulate_grad_batches": 2}),
    "by hand": (ByHand, {}),
}


@pytest.mark.parametrize(
    ("maker", "training"),
    [*((maker, "plain") for maker in MAKERS), *(("second_view", training) for training in list(TRAININGS)[1:])],
)
def test_a_training_is_the_same_to_the_last_bit(maker: str, training: str) -> None:
    kind, settings = TRAININGS[training]
    states = []
    for make in (None, MAKERS[maker]):
        module = kind()
        callbacks = []
        if make is not None:
            callbacks = [ASSLScoreCallback(N, observe=make())]
        data = DataLoader(IndexedDataset(pool()) if callbacks else pool(), batch_size=8, shuffle=True)
        fit(module, data, *callbacks, **settings)
        states.append(state_of(module) | {"count": [module.model.count, module.teacher.count]})
        if callbacks:
            assert int(callbacks[0].statistics.visits.sum()) >= N
            assert not module.model._forward_hooks, "the hooks are gone"
    assert_same_state(*states)


def test_without_the_care_the_training_would_differ() -> None:
    """The module is one on which a careless pass shows, or the test above could not fail."""

    class Careless(ASSLScoreCallback):
        def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *rest: Any) -> None:
            pl_module.model(noisy(rest[1][0]))  # type: ignore[operator]

        def on_train_end(self, *_: Any) -> None:
            self._stop()

    states = []
    for callbacks in ((), (Careless(N),)):
        module = Student()
        fit(module, DataLoader(pool(), batch_size=8), *callbacks)
        states.append(state_of(module))
    differing = [name for name in states[0] if not np.array_equal(states[0][name], states[1][name])]
    assert {"model.body.1.running_mean", "model.calls", "torch", "numpy"} <= set(differing)


def test_a_side_pass_puts_everything_back_after_an_error() -> None:
    module = Student()
    module.teacher.eval()
    before = state_of(module)

    def passes() -> None:
        with observe.side_pass(module, key=4):
            assert not any(part.training for part in module.modules())
            assert not module.model(noisy(torch.ones(2, 3, 4, 4))).requires_grad
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        passes()
    assert_same_state(before, state_of(module))
    assert module.model.count == 0
    assert not hasattr(module.model, "latest")
    assert [part.training for part in module.children()] == [True, False, True]


def test_a_side_pass_leaves_a_lazy_part_that_it_does_not_call_alone_and_keeps_one_that_it_makes() -> None:
    parts = nn.ModuleDict({"called": nn.LazyBatchNorm1d(), "other": nn.LazyBatchNorm1d()})
    with observe.side_pass(parts):
        parts["called"](torch.ones(2, 3))
    assert parts["called"].num_features == 3
    assert isinstance(parts["other"], nn.LazyBatchNorm1d)
    parts["called"](torch.ones(2, 3))


class TwoViews(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        loss: Tensor = (self.model(x) - self.model(x + 0.3)).square().mean()
        return loss


def test_passes_of_one_callback_are_no_calls_for_another() -> None:
    def scores_of(*others: ASSLScoreCallback) -> Tensor:
        callback = ASSLScoreCallback(observe=observe.forward("model", -2, -1))
        fit(TwoViews(), DataLoader(IndexedDataset(pool()), batch_size=8), *others, callback)
        return callback.scores()

    other = ASSLScoreCallback(observe=observe.second_view("model"), name="other")
    assert torch.equal(scores_of(other), scores_of())


def test_a_copy_of_the_network_notes_nothing() -> None:
    class Averaged(TwoViews):
        """Copies its network within the first step, as some averages of weights do."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 0:
                self.average = copy.deepcopy(self.model)
            self.average(batch[0])
            return loss

    module = Averaged()
    callback = ASSLScoreCallback(observe=observe.forward("model", 0, 1))
    fit(module, DataLoader(IndexedDataset(pool()), batch_size=8), callback)
    (copied,) = module.average._forward_hooks.values()
    assert copied.__self__._calls == []  # type: ignore[attr-defined]
    assert callback.statistics.visits.tolist() == [2] * N


def test_a_view_of_a_later_step_is_another_one() -> None:
    seen = []

    def view(images: Tensor) -> Tensor:
        seen.append(torch.rand(()).item())
        return images

    fit(
        Student(),
        DataLoader(IndexedDataset(pool()), 8),
        ASSLScoreCallback(observe=observe.second_view("model", view, call=1)),
    )
    assert len(set(seen)) == len(seen) == 6
