"""Laws of every algorithm that judges pseudo-labels. A new YAML file is tested here without a new line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from assl_lightning.learning.pseudo_labels import PseudoLabelling
from tests.learning import contract
from tests.learning.judging import on_rank, steps
from tests.learning.test_contract import OF_FILES
from tests.method.rank_threads import Ranks
from tests.stripes import CLASSES

NAMES = [name for name in OF_FILES if name != "supervised" and not name.endswith("_small")]
STEPS, ROWS = 8, 12

Make = Callable[[], PseudoLabelling]


@pytest.fixture(params=NAMES, scope="module")
def make(request: pytest.FixtureRequest) -> Make:
    """A new learner at the defaults, in float32."""
    make_one: Any = contract.make_of_configuration(request.param)
    return make_one  # type: ignore[no-any-return]


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Logits of weak views and of labelled images, and indices, some of them twice."""
    index = torch.randint(20, (STEPS, ROWS), generator=torch.Generator().manual_seed(2))
    logits = ((2 * weak[:, :CLASSES], labelled[:, :CLASSES]) for weak, labelled in steps(STEPS, ROWS, 4, seed=5))
    return [(*of_step, numbers) for of_step, numbers in zip(logits, index, strict=True)]


def judge(learner: PseudoLabelling, change: Callable[..., Any] = lambda *parts: parts) -> list[PseudoLabels]:
    """The judgement of each step, of a batch that is changed."""
    return [learner.judge(*change(*batch)) for batch in batches()]


def state_of(learner: PseudoLabelling) -> dict[str, Tensor]:
    """What it keeps beside the network, by name."""
    return {name: value for name, value in learner.state_dict().items() if not name.startswith("network.")}


def check_same(mine: Any, other: Any) -> None:
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_some_pseudo_labels_count_more_than_others(make: Make) -> None:
    weights = torch.cat([pseudo.weight for pseudo in judge(make())])
    assert weights.min() < 0.9 < weights.max() <= 1, "or the laws below say nothing"
    assert weights.min() >= 0


def test_the_order_of_the_batch_changes_nothing(make: Make) -> None:
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))

    def mixed(weak: Tensor, labelled: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        return weak[order], labelled.flip(0), torch.arange(ROWS)[order]

    def unmixed(weak: Tensor, labelled: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        return weak, labelled, torch.arange(ROWS)

    one, two = make(), make()
    for plain, other in zip(judge(one, unmixed), judge(two, mixed), strict=True):
        check_same(other, PseudoLabels(plain.label[order], plain.weight[order]))
    check_same(state_of(two), state_of(one))


def test_another_order_of_the_classes_changes_nothing(make: Make) -> None:
    order, back = torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])

    def renamed(weak: Tensor, labelled: Tensor, index: Tensor) -> tuple[Tensor, ...]:
        return weak[:, order], labelled[:, order], index

    for plain, other in zip(judge(make()), judge(make(), renamed), strict=True):
        label = back[plain.label] if plain.label.ndim == 1 else plain.label[:, order]
        check_same(other, PseudoLabels(label, plain.weight))


def test_two_ranks_judge_and_learn_as_one_process(make: Make) -> None:
    """Each has one half of the batch; the mean of their gradients is what DDP makes of them."""
    strong = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(3))

    def learn(learner: PseudoLabelling, half: slice) -> Any:
        half_of_labelled = slice(half.start // 3, half.stop // 3)
        found = judge(learner, lambda weak, labelled, index: (weak[half], labelled[half_of_labelled], index[half]))
        views = strong[half].clone().requires_grad_()
        loss = learner.further_loss(views, found[-1])
        gradient = torch.zeros_like(views) if loss is None else torch.autograd.grad(loss, views)[0]
        return found, loss, gradient, state_of(learner)

    def of_rank(trainer: Any, module: Any) -> Any:
        first = trainer.global_rank * ROWS // 2
        return learn(on_rank(make(), trainer, module), slice(first, first + ROWS // 2))

    (judged, loss, gradient, state), ranks = learn(make(), slice(0, ROWS)), Ranks().run(of_rank)
    for number, whole in enumerate(judged):
        halves = zip(*(found[number] for found, *_ in ranks), strict=True)
        check_same(PseudoLabels(*map(torch.cat, halves)), whole)
    check_same(torch.cat([of_rank[2] for of_rank in ranks]) / 2, gradient)
    for _, of_rank_loss, _, of_rank_state in ranks:
        check_same(of_rank_state, state)
        assert (of_rank_loss is None) == (loss is None)
        if loss is not None:
            check_same(of_rank_loss, loss)
