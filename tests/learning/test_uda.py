"""UDA against its rule in Python's float64, and its laws."""

from __future__ import annotations

import math

import pytest
import torch

from assl_lightning.learning.fixmatch import FixMatch
from assl_lightning.learning.pseudo_label_loss import pseudo_label_loss
from assl_lightning.learning.uda import UDA
from tests.learning.judging import argmax, logits_of, make, probabilities, steps


def test_fifty_steps_are_those_of_the_rule() -> None:
    learner, accepted = make(UDA, threshold=0.8, temperature=0.4), 0.0
    for weak, labelled in steps(50):
        strong, label = weak.roll(1, 0) + 0.5, torch.zeros(len(labelled), dtype=torch.int64)
        loss = pseudo_label_loss(labelled, label, strong, learner.judge(weak, labelled, torch.arange(len(weak))))
        supervised = -sum(math.log(row[0]) for row in probabilities(labelled)) / len(labelled)
        unsupervised = 0.0
        of_views = zip(probabilities(weak), probabilities(weak / 0.4), probabilities(strong), strict=True)
        for plain, sharp, seen in of_views:
            if max(plain) >= 0.8:
                unsupervised -= sum(p * math.log(q) for p, q in zip(sharp, seen, strict=True)) / len(weak)
                accepted += 1 / len(weak) / 50
        assert loss.supervised.item() == pytest.approx(supervised, rel=1e-5)
        assert loss.unsupervised.item() == pytest.approx(unsupervised, rel=1e-4, abs=1e-6)
    assert 0.1 < accepted < 0.9


def test_the_table_that_was_worked_by_hand() -> None:
    pseudo = make(UDA, classes=2, threshold=0.8, temperature=0.5).judge(
        logits_of([[0.8, 0.2], [0.75, 0.25], [0.1, 0.9]]), logits_of([[0.5, 0.5]]), torch.arange(3)
    )
    assert pseudo.weight.tolist() == [1.0, 0.0, 1.0]  # 0.8 reaches the threshold
    assert pseudo.label[0].tolist() == pytest.approx([16 / 17, 1 / 17])
    assert pseudo.label[2].tolist() == pytest.approx([1 / 82, 81 / 82])


def test_nearly_at_a_temperature_of_zero_it_is_fixmatch() -> None:
    weak, labelled = next(steps(1))
    index, label = torch.arange(len(weak)), torch.zeros(len(labelled), dtype=torch.int64)
    uda, fixmatch = make(UDA, threshold=0.6, temperature=1e-4), make(FixMatch, threshold=0.6)
    one, two = (
        pseudo_label_loss(labelled, label, weak.flip(0), learner.judge(weak, labelled, index))
        for learner in (uda, fixmatch)
    )
    torch.testing.assert_close(one.total, two.total)
    assert 0 < one.mask_rate < 1
    assert [argmax(row) for row in uda.judge(weak, labelled, index).label.tolist()] == weak.argmax(-1).tolist()
