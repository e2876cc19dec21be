"""FlexMatch against its rule by a dictionary, and its laws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from assl_lightning.learning.flexmatch import NEVER_SEEN, NEVER_SURE, FlexMatch
from tests.learning.judging import CLASSES, argmax, logits_of, make, on_rank, probabilities, steps
from tests.method.rank_threads import Ranks


def sure_of(*classes: int | None, classes_in_all: int = 2) -> Tensor:
    """Logits of one row each: sure of a class, or of none."""
    rows = []
    for label in classes:
        row = [0.01 / (classes_in_all - 1)] * classes_in_all
        if label is None:
            row = [1 / classes_in_all] * classes_in_all
        else:
            row[label] = 0.99
        rows.append(row)
    return logits_of(rows)


def test_fifty_steps_are_those_of_the_rule() -> None:
    size, generator = 40, torch.Generator().manual_seed(1)
    learner = make(FlexMatch, num_samples=size, threshold=0.8)
    taken: dict[int, int] = {}
    learned = [0.0] * CLASSES
    seen = set()
    for weak, labelled in steps(50):
        index = torch.randint(size, (len(weak),), generator=generator)  # with samples that come twice
        rows = probabilities(weak)
        of_label = [learned[argmax(row)] for row in rows]
        expected = [float(max(row) >= 0.8 * b / (2 - b)) for row, b in zip(rows, of_label, strict=True)]
        seen.update(expected)
        pseudo = learner.judge(weak, labelled, index)
        assert pseudo.label.tolist() == [argmax(row) for row in rows]
        assert pseudo.weight.tolist() == expected

        for sample, row in zip(index.tolist(), rows, strict=True):
            taken[sample] = argmax(row) if max(row) >= 0.8 else taken.get(sample, NEVER_SURE)
        never_sure, *counts = (sum(label == c for label in taken.values()) for c in range(NEVER_SURE, CLASSES))
        learned = [count / max(*counts, never_sure) for count in counts]
        assert learner.taken_for.tolist() == [taken.get(sample, NEVER_SEEN) for sample in range(size)]
        assert learner.counts.tolist() == [size - len(taken), never_sure, *counts]
        assert learner.learned.tolist() == pytest.approx(learned)
    assert seen == {0.0, 1.0}


def test_the_table_that_was_worked_by_hand() -> None:
    learner = make(FlexMatch, classes=2, num_samples=4)
    assert learner.judge(sure_of(None, 1), sure_of(0), torch.tensor([0, 1])).weight.tolist() == [1.0, 1.0]  # β = 0
    learner = make(FlexMatch, classes=2, num_samples=4)
    learner.judge(sure_of(0, 0, 1, None), sure_of(0), torch.arange(4))
    assert learner.taken_for.tolist() == [0, 0, 1, NEVER_SURE]
    assert learner.learned.tolist() == [1.0, 0.5]
    rows = logits_of([[0.94, 0.06], [0.96, 0.04], [0.499, 0.501]])  # thresholds 0.95 and 0.95 / 3
    assert learner.judge(rows, rows, torch.tensor([0, 1, 2])).weight.tolist() == [0.0, 1.0, 1.0]


def test_a_confidence_equal_to_the_threshold_is_sure() -> None:
    learner = make(FlexMatch, classes=2, num_samples=2, threshold=0.5)
    even = torch.zeros(1, 2)
    assert learner.judge(even, even, torch.tensor([1])).weight.tolist() == [1.0]
    assert learner.taken_for.tolist() == [NEVER_SEEN, 0]
    assert learner.judge(even, even, torch.tensor([1])).weight.tolist() == [1.0]  # β = 1: the threshold is 0.5


def test_samples_that_were_never_seen_stand_in_no_class_s_way() -> None:
    learner = make(FlexMatch, classes=2, num_samples=1000)
    learner.judge(sure_of(0, 1), sure_of(0), torch.tensor([5, 7]))
    assert learner.learned.tolist() == [1.0, 1.0]


def test_a_sample_stays_what_it_was_taken_for_until_it_is_taken_for_another() -> None:
    learner = make(FlexMatch, classes=2, num_samples=3)
    one = torch.tensor([1])
    for row, expected in ((None, NEVER_SURE), (1, 1), (None, 1), (0, 0)):
        learner.judge(sure_of(row), sure_of(0), one)
        assert learner.taken_for.tolist() == [NEVER_SEEN, expected, NEVER_SEEN]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [((0, 1), 1), ((1, 0), 0), ((0, None), 0), ((None, 0), 0), ((None, None), NEVER_SURE)],
)
def test_of_a_sample_that_comes_twice_the_last_confident_row_counts(
    rows: tuple[int | None, ...], expected: int
) -> None:
    learner = make(FlexMatch, classes=2, num_samples=3)
    learner.judge(sure_of(*rows, 1), sure_of(0), torch.tensor([2, 2, 0]))
    assert learner.taken_for.tolist() == [1, NEVER_SEEN, expected]


def test_the_order_of_the_batch_changes_nothing() -> None:
    weak, labelled = next(steps(1))
    order = torch.randperm(len(weak), generator=torch.Generator().manual_seed(2))
    found = []
    for rows in (torch.arange(len(weak)), order):
        learner = make(FlexMatch, num_samples=len(weak), threshold=0.5)
        learner.judge(weak[rows], labelled, rows)
        found.append((learner.taken_for.tolist(), learner.learned.tolist()))
    assert found[0] == found[1]


def test_of_a_sample_on_two_ranks_the_row_of_the_later_one_counts() -> None:
    def of_rank(trainer: Any, module: Any) -> Any:
        learner = on_rank(make(FlexMatch, classes=2, num_samples=4), trainer, module)
        for rows in ((0, None), (None, 1)) if trainer.global_rank == 0 else ((1, 1), (0, None)):
            learner.judge(sure_of(*rows), sure_of(0), torch.tensor([2, 3]))
        return learner.taken_for.tolist(), learner.counts.tolist(), learner.learned.tolist()

    ranks = Ranks()
    assert ranks.run(of_rank) == [([NEVER_SEEN, NEVER_SEEN, 0, 1], [2, 0, 1, 1], [1.0, 1.0])] * 2
    assert ranks.calls == [2, 2], "one gather a step"


def test_its_state_is_saved_and_loaded_whatever_the_size_of_the_pool() -> None:
    learner = make(FlexMatch, classes=2)
    learner.judge(sure_of(0, 1), sure_of(0), torch.tensor([0, 6]))
    assert len(learner.taken_for) == 7  # as many as were seen, where the size of the pool is not known
    other = make(FlexMatch, classes=2, num_samples=3)
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.taken_for, learner.taken_for)
    assert torch.equal(other.learned, learner.learned)
    for each in (learner, other):
        each.judge(sure_of(1, None), sure_of(0), torch.tensor([6, 2]))
    assert other.counts.tolist() == learner.counts.tolist() == [4, 1, 1, 1]


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_pool_of_no_size_is_refused(size: float) -> None:
    with pytest.raises((ValueError, TypeError), match="num_samples must be"):
        make(FlexMatch, num_samples=size)
