"""FreeMatch against its rule in float64, and its laws."""

from __future__ import annotations

import math

import pytest
import torch

from assl_lightning.learning.freematch import FreeMatch, fairness_loss, sums_of_counted
from tests.learning.judging import CLASSES, argmax, column_means, logits_of, make, moved, probabilities, steps


@pytest.mark.parametrize("warm_up", [True, False])
@pytest.mark.parametrize("max_threshold", [1.0, 0.5])
def test_fifty_steps_are_those_of_the_rule(warm_up: bool, max_threshold: float) -> None:
    learner = make(FreeMatch, momentum=0.95, momentum_warm_up=warm_up, max_threshold=max_threshold)
    mean, of_class, of_labels = 1 / CLASSES, [1 / CLASSES] * CLASSES, [1 / CLASSES] * CLASSES
    seen = set()
    for step, (weak, labelled) in enumerate(steps(50)):
        rows = probabilities(weak)
        momentum = min(0.95, step / (step + 1)) if warm_up else 0.95
        (mean,) = moved([mean], [sum(map(max, rows)) / len(rows)], momentum)
        of_class = moved(of_class, column_means(rows), momentum)
        shares = [sum(argmax(row) == c for row in rows) / len(rows) for c in range(CLASSES)]
        of_labels = moved(of_labels, shares, momentum)
        thresholds = [min(mean, max_threshold) * of_class[argmax(row)] / max(of_class) for row in rows]
        expected = [float(max(row) >= threshold) for row, threshold in zip(rows, thresholds, strict=True)]
        seen.update(expected)

        pseudo = learner.judge(weak, labelled, torch.arange(len(weak)))
        assert pseudo.label.tolist() == [argmax(row) for row in rows]
        assert pseudo.weight.tolist() == expected
        assert float(learner.running["confidence"]) == pytest.approx(mean, abs=1e-5)
        assert learner.running["probability"].tolist() == pytest.approx(of_class, abs=1e-5)
        assert learner.running["histogram"].tolist() == pytest.approx(of_labels, abs=1e-5)
    assert seen == {0.0, 1.0}


@pytest.mark.parametrize("warm_up", [True, False])
def test_a_constant_confidence_is_approached_from_a_guess_or_is_the_threshold_at_once(warm_up: bool) -> None:
    learner = make(FreeMatch, momentum=0.9, momentum_warm_up=warm_up)
    assert float(learner.running["confidence"]) == 1 / CLASSES
    rows = logits_of([[0.7 if column == row else 0.1 for column in range(CLASSES)] for row in range(CLASSES)])
    for step in range(1, 30):
        learner.judge(rows, rows, torch.arange(CLASSES))
        share = 0.0 if warm_up else 0.9**step
        assert float(learner.running["confidence"]) == pytest.approx(share / CLASSES + (1 - share) * 0.7, rel=1e-5)
        assert learner.running["probability"].tolist() == pytest.approx([1 / CLASSES] * CLASSES)


def test_at_the_start_as_published_the_threshold_is_that_of_a_guess() -> None:
    learner = make(FreeMatch, momentum_warm_up=False)
    rows = logits_of([[0.26, 0.25, 0.25, 0.24], [0.97, 0.01, 0.01, 0.01]])
    assert learner.judge(rows, rows, torch.arange(2)).weight.tolist() == [1.0, 1.0]


def test_a_class_that_is_rarely_predicted_has_a_lower_threshold() -> None:
    learner = make(FreeMatch, classes=3)
    learner.running.update = lambda **_: None  # type: ignore[method-assign]
    learner.running["confidence"].fill_(0.9)
    learner.running["probability"].copy_(torch.tensor([0.6, 0.3, 0.1]))  # thresholds 0.9, 0.45 and 0.15
    rows = logits_of([[0.89, 0.06, 0.05], [0.91, 0.05, 0.04], [0.28, 0.44, 0.28], [0.27, 0.46, 0.27], [0.3, 0.3, 0.4]])
    assert learner.judge(rows, rows, torch.arange(5)).weight.tolist() == [0.0, 1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("predicted", [3, 2], ids=["every class", "a class that no view is taken for"])
def test_the_fairness_term_is_that_of_the_definition(predicted: int) -> None:
    generator = torch.Generator().manual_seed(3)
    strong = 2 * torch.randn(30, 3, generator=generator)
    if predicted == 2:
        strong[:, 1] = strong.amin(1)
    strong.requires_grad_()
    weight = (torch.rand(30, generator=generator) < 0.5).float()
    probability, histogram = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.6, 0.4, 0.0])
    rows = [row for row, counts in zip(probabilities(strong.detach()), weight.tolist(), strict=True) if counts]
    mean = column_means(rows)
    share = [sum(argmax(row) == c for row in rows) / len(rows) for c in range(3)]
    assert sum(value > 0 for value in share) == predicted

    def norm(values: list[float]) -> list[float]:
        return [value / sum(values) for value in values]

    of_pool = norm([0.5 / 0.6, 0.3 / 0.4, 0.0])
    of_strong = norm([a / b if b else 0.0 for a, b in zip(mean, share, strict=True)])
    expected = sum(a * math.log(b + 1e-12) for a, b in zip(of_pool, of_strong, strict=True))
    found = fairness_loss(sums_of_counted(strong, weight), probability, histogram)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert found.item() <= 0
    found.backward()
    assert strong.grad is not None
    assert strong.grad.isfinite().all()
    assert (strong.grad.abs().sum(1) > 0).tolist() == weight.bool().tolist()


def test_without_views_that_count_the_fairness_term_is_nothing() -> None:
    strong = torch.randn(5, 3, requires_grad=True)
    term = fairness_loss(sums_of_counted(strong, torch.zeros(5)), torch.full((3,), 1 / 3), torch.full((3,), 1 / 3))
    term.backward()
    assert term.item() == 0
    assert strong.grad is not None
    assert (strong.grad == 0).all()


def test_its_weight_is_lambda_e_and_zero_turns_it_off() -> None:
    strong, rows = torch.randn(6, CLASSES), torch.randn(6, CLASSES)
    terms = []
    for fairness in (0.0, 0.001, 0.01):
        learner = make(FreeMatch, fairness=fairness)
        terms.append(learner.further_loss(strong, learner.judge(rows, rows, torch.arange(6))))
    assert terms[0] is None
    assert terms[1] is not None
    assert terms[2] is not None
    assert terms[2].item() == pytest.approx(10 * terms[1].item(), rel=1e-5)
