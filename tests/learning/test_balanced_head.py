"""The balanced head against its rule in Python's float64, its laws, and its place in every algorithm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from assl_lightning.learning.balanced_head import BalancedLoss
from assl_lightning.learning.fixmatch import FixMatch, fixmatch_loss
from assl_lightning.learning.pseudo_label_loss import PseudoLabels
from tests.learning import contract
from tests.learning.judging import CLASSES, argmax, logits_of, make, probabilities, steps
from tests.stripes import SGD

LABELS = [0] * 9 + [1] * 4 + [2]  # no image of class 3
SHARES = [1 / 10, 1 / 5, 1 / 2, 1.0]


def counted(labels: list[int], classes: int = CLASSES) -> BalancedLoss:
    loss = BalancedLoss(classes)
    loss.count(torch.tensor(labels, dtype=torch.int32))
    return loss


def loss_of_definition(
    labelled: Tensor, label: list[int], weak: Tensor, strong: Tensor, shares: list[float], progress: float
) -> float:
    """One image at a time."""
    total = 0.0
    for row, number in zip(probabilities(labelled), label, strict=True):
        total -= shares[number] * math.log(row[number]) / len(label)
    for row, seen in zip(probabilities(weak), probabilities(strong), strict=True):
        number = argmax(row)
        if row[number] >= 0.95:
            total -= (1 - progress * (1 - shares[number])) * math.log(seen[number]) / len(weak)
    return total


def test_fifty_steps_are_those_of_the_rule() -> None:
    loss, generator = counted(LABELS), torch.Generator().manual_seed(3)
    accepted = 0.0
    for step, (weak, labelled) in enumerate(steps(50)):
        label = torch.randint(CLASSES, (len(labelled),), generator=generator)
        strong = weak + torch.randn(weak.shape, generator=generator)
        pseudo = loss.weigh(weak, step / 50)
        found = loss(labelled, label, strong, pseudo)
        expected = loss_of_definition(labelled, label.tolist(), weak, strong, SHARES, step / 50)
        assert found.item() == pytest.approx(expected, rel=1e-5)
        accepted += float((pseudo.weight > 0).float().mean()) / 50
    assert 0.1 < accepted < 0.9, "or the threshold is not tested"


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, [1, 1, 1, 1, 0]), (0.5, [0.55, 0.6, 0.75, 1, 0]), (1.0, [0.1, 0.2, 0.5, 1, 0])],
)
def test_the_table_that_was_worked_by_hand(progress: float, expected: list[float]) -> None:
    loss = counted(LABELS)
    assert loss.shares.tolist() == pytest.approx(SHARES)
    sure = [[0.97 if column == row else 0.01 for column in range(4)] for row in range(4)]
    pseudo = loss.weigh(logits_of([*sure, [0.94, 0.02, 0.02, 0.02]]), progress)
    assert pseudo.label.tolist() == [0, 1, 2, 3, 0]
    assert pseudo.weight.tolist() == pytest.approx(expected)


def test_a_class_without_a_label_leaves_a_loss_with_a_finite_gradient() -> None:
    weak, labelled = next(steps(1, labelled=3))
    strong = weak.clone().requires_grad_()
    labelled.requires_grad_()
    loss = counted([0] * 500)
    assert loss.shares.tolist() == pytest.approx([1 / 501, 1, 1, 1])
    loss(labelled, torch.tensor([0, 0, 0]), strong, loss.weigh(10 * weak, 1.0)).backward()
    for rows in (labelled, strong):
        assert rows.grad is not None
        assert rows.grad.isfinite().all()
        assert rows.grad.abs().sum() > 0


@pytest.mark.parametrize("progress", [0.0, 0.7, 1.0])
def test_with_equally_many_labels_it_is_the_plain_masked_loss(progress: float) -> None:
    loss = counted([0, 1, 2, 3] * 5)
    weak, labelled = next(steps(1))
    weak, label = 5 * weak, torch.tensor([0, 1, 2, 3, 0])
    plain = fixmatch_loss(labelled, label, weak, weak.flip(0))
    assert 0 < plain.mask_rate.item() < 1
    torch.testing.assert_close(loss(labelled, label, weak.flip(0), loss.weigh(weak, progress)), plain.total)


def test_another_order_of_the_classes_changes_nothing() -> None:
    order, back = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])
    weak, labelled = next(steps(1))
    label = torch.tensor([0, 1, 2, 3, 0])
    first, second = counted(LABELS), counted([int(back[number]) for number in LABELS])
    found = first(labelled, label, weak, first.weigh(5 * weak, 0.5))
    moved = second(labelled[:, order], back[label], weak[:, order], second.weigh(5 * weak[:, order], 0.5))
    torch.testing.assert_close(moved, found)


def test_the_gradient_flows_into_the_strong_view_and_not_into_the_weak_one() -> None:
    weak, labelled = next(steps(1))
    weak, strong = (5 * weak).requires_grad_(), weak.clone().requires_grad_()
    loss = counted(LABELS)
    loss(labelled, torch.tensor([0, 1, 2, 3, 0]), strong, loss.weigh(weak, 0.5)).backward()
    assert weak.grad is None
    assert strong.grad is not None
    assert strong.grad.abs().sum() > 0


# --- in an algorithm --------------------------------------------------------------------------------------------------


def test_off_there_is_nothing_of_it() -> None:
    off, unsaid = make(FixMatch, balanced_head=False), make(FixMatch)
    assert off.state_dict().keys() == unsaid.state_dict().keys()
    assert all(name.startswith("network.") for name in off.state_dict())
    assert list(off.heads) == ["network.head"]


def test_on_there_is_one_head_more_which_begins_with_the_same_weights_and_is_optimised() -> None:
    off, on = make(FixMatch), make(FixMatch, balanced_head=True)
    assert on.state_dict().keys() - off.state_dict().keys() == {"judging_head.weight", "judging_head.bias"}
    assert torch.equal(on.state_dict()["judging_head.weight"], on.state_dict()["network.head.weight"])
    assert on.state_dict()["judging_head.weight"] is not on.state_dict()["network.head.weight"]
    sizes = [[len(group["params"]) for group in learner.groups] for learner in (off, on)]
    assert sizes[1] == [count + 1 for count in sizes[0]], "a weight that decays, and a bias that does not"


def with_shares(labels: list[int]) -> FixMatch:
    learner = FixMatch(contract.make_network(), optimizer=SGD, balanced_head=True)
    assert learner.balanced is not None
    learner.balanced.count(torch.tensor(labels))
    return learner


def test_both_losses_teach_the_features_and_each_its_own_head() -> None:
    gradients: list[dict[str, Any]] = []
    plain = FixMatch(contract.make_network(), optimizer=SGD)
    for learner in (plain, with_shares([0, 1, 2])):
        _, output = contract.one_step(learner)
        output["loss"].backward()
        gradients.append({name: value.grad for name, value in learner.named_parameters()})
    one, two = gradients
    for name in ("network.head.weight", "network.head.bias"):  # with as many labels of each class both heads are one
        torch.testing.assert_close(two[name], one[name])
        torch.testing.assert_close(two[name.replace("network.head", "judging_head")], one[name])
    torch.testing.assert_close(two["network.body.1.weight"], 2 * one["network.body.1.weight"])


def test_the_head_that_predicts_is_the_balanced_one() -> None:
    learner = with_shares([0] * 20 + [1, 2])
    with torch.no_grad():
        learner.get_parameter("judging_head.weight").neg_()
    batch, output = contract.one_step(learner)
    with torch.no_grad():
        torch.testing.assert_close(output["logits_weak"], learner(batch["weak"]))
        torch.testing.assert_close(output["logits_strong"], learner(batch["strong"]))
        torch.testing.assert_close(
            learner(batch["weak"]), learner.network.head(learner.network.features(batch["weak"]))
        )


def test_the_labels_of_the_pool_are_counted_before_the_fit(tmp_path: Path) -> None:
    learner = FixMatch(contract.make_network(), optimizer=SGD, balanced_head=True)
    contract.fit(lambda: learner, tmp_path)
    pool = contract.make_data().pool
    counts = torch.bincount(pool.labels[pool.labelled].long(), minlength=3) + 1
    assert len(set(counts.tolist())) > 1
    assert learner.balanced is not None
    torch.testing.assert_close(learner.balanced.shares, counts.min() / counts)
    assert learner._progress() == 1.0


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_without_a_pool_the_labels_must_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = FixMatch(contract.make_network(), optimizer=SGD, balanced_head=True)
    batch, _ = contract.one_step(FixMatch(contract.make_network(), optimizer=SGD))
    batches: Any = [batch] * 4
    loader = DataLoader(batches, batch_size=None)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    with pytest.raises(ValueError, match=r"balanced_head needs the labels .* or call algorithm.balanced.count"):
        trainer.fit(learner, loader)
    assert learner.balanced is not None
    learner.balanced.count(torch.tensor([0, 1]))
    progress, weigh = [], learner.balanced.weigh

    def watched(weak: Tensor, share: Tensor) -> PseudoLabels:
        progress.append(share.item())
        return weigh(weak, share)

    monkeypatch.setattr(learner.balanced, "weigh", watched)
    trainer.fit(learner, loader)
    assert progress == [step / 8 for step in range(8)]
