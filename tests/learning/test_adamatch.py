"""AdaMatch against its rule in float64."""

from __future__ import annotations

import pytest
import torch

from assl_lightning.learning.adamatch import AdaMatch
from assl_lightning.learning.alignment import Target
from tests.learning.judging import CLASSES, argmax, column_means, logits_of, make, moved, probabilities, steps


@pytest.mark.parametrize("warm_up", [True, False])
@pytest.mark.parametrize("target", ["uniform", "labelled"])
def test_fifty_steps_are_those_of_the_rule(target: Target, warm_up: bool) -> None:
    learner = make(AdaMatch, target=target, momentum=0.95, momentum_warm_up=warm_up, threshold=0.9)
    of_pool, of_labelled = [1 / CLASSES] * CLASSES, [1 / CLASSES] * CLASSES
    seen = set()
    for step, (weak, labelled) in enumerate(steps(50)):
        rows, others = probabilities(weak), probabilities(labelled)
        momentum = min(0.95, step / (step + 1)) if warm_up else 0.95
        of_pool = moved(of_pool, column_means(rows), momentum if step or warm_up else 0.0)
        of_labelled = moved(of_labelled, column_means(others), momentum)
        wanted = of_labelled if target == "labelled" else [1 / CLASSES] * CLASSES
        aligned = []
        for row in rows:
            scaled = [p * (q + 1e-6) / (o + 1e-6) for p, q, o in zip(row, wanted, of_pool, strict=True)]
            aligned.append([value / sum(scaled) for value in scaled])
        threshold = 0.9 * sum(map(max, others)) / len(others)
        expected = [float(max(row) >= threshold) for row in aligned]
        seen.update(expected)

        pseudo = learner.judge(weak, labelled, torch.arange(len(weak)))
        assert pseudo.label.tolist() == [argmax(row) for row in aligned]
        assert pseudo.weight.tolist() == expected
    assert seen == {0.0, 1.0}


def test_equal_confidences_all_count() -> None:
    rows = logits_of([[0.7 if column == row else 0.1 for column in range(CLASSES)] for row in range(CLASSES)])
    assert make(AdaMatch).judge(rows, rows, torch.arange(CLASSES)).weight.tolist() == [1.0] * CLASSES
    surer = logits_of([[0.97, 0.01, 0.01, 0.01]])
    assert make(AdaMatch).judge(rows, surer, torch.arange(CLASSES)).weight.tolist() == [0.0] * CLASSES


def test_the_threshold_follows_the_labelled_images_of_the_step() -> None:
    rows = logits_of([[0.8, 0.1, 0.05, 0.05]])
    sure, unsure = logits_of([[0.97, 0.01, 0.01, 0.01]]), logits_of([[0.6, 0.2, 0.1, 0.1]])
    for labelled, expected in ((sure, 0.0), (unsure, 1.0)):
        pseudo = make(AdaMatch, target="none").judge(rows, labelled, torch.arange(1))
        assert pseudo.weight.tolist() == [expected]
