"""Wrong answers are counted against the probabilities that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chisquare
from torch import Tensor

from assl_lightning.base.seeding import Draws, derive_key
from assl_lightning.data.sources.base import PoolSource
from assl_lightning.loop.oracles import HeldBackLabels, LabelRequest, Oracle, held_back_labels

CLASSES = 5
LABELS = torch.randint(CLASSES, (20_000,), generator=torch.Generator().manual_seed(0))
ROWS = [
    [0.7, 0.1, 0.2, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0, 0.0],
    [0.25, 0.25, 0.0, 0.25, 0.25],
    [0.0, 0.0, 0.0, 0.0, 1.0],
    [0.05, 0.05, 0.05, 0.05, 0.8],
]


def ask(oracle: HeldBackLabels, index: Tensor) -> Tensor:
    answers = oracle.answer(LabelRequest(0, index, tuple(map(str, index.tolist()))))
    assert torch.equal(answers.index, index)
    assert len(answers.excluded) == 0
    return answers.label


def answers_to_all(**options: Any) -> Tensor:
    return ask(HeldBackLabels(LABELS, num_classes=CLASSES, **options), torch.arange(len(LABELS)))


def answer_of_definition(label: int, row: Sequence[float], uniform: float) -> int:
    """The class in whose share of [0, 1) the number lies; shares follow one another from the true class on."""
    used = 0.0
    for offset in range(len(row)):
        answer = (label + offset) % len(row)
        used += row[answer]
        if uniform < used:
            return answer
    raise AssertionError("the row's sum is below 1")


def table_of(noise: float, kind: str) -> list[list[float]]:
    """P(answer | class), written out."""
    table = [[0.0] * CLASSES for _ in range(CLASSES)]
    for label in range(CLASSES):
        table[label][label] = 1 - noise
        if kind == "pair":
            table[label][(label + 1) % CLASSES] += noise
        else:
            for other in set(range(CLASSES)) - {label}:
                table[label][other] = noise / (CLASSES - 1)
    return table


def test_labels_that_nobody_knows_cannot_be_held_back() -> None:
    with pytest.raises(ValueError, match="labels must be known for the whole pool, but 2 of its 4 samples have none; "):
        HeldBackLabels(torch.tensor([0, -1, 1, -1]))


@pytest.mark.parametrize("field", ["unreadable", "absent"])
def test_an_image_that_is_never_asked_for_needs_no_label(field: str) -> None:
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    labels = torch.tensor([2, -1, 1, -1])
    given: dict[str, Any] = {field: torch.tensor([1, 3])}
    source = PoolSource(images, labels, images[:1], labels[:1], ("a", "b", "c"), ("0", "1", "2", "3"), **given)
    assert ask(held_back_labels(source), torch.tensor([2, 0])).tolist() == [1, 2]
    assert source.hidden_labels.tolist() == [2, -1, 1, -1]
    with pytest.raises(ValueError, match="but 1 of its 4 samples have none"):
        held_back_labels(replace(source, unreadable=torch.tensor([3]), absent=torch.arange(0)))


def test_without_noise_the_answers_are_the_labels() -> None:
    index = torch.tensor([7, 3, 19_999, 0])
    oracle = HeldBackLabels(LABELS)
    assert isinstance(oracle, Oracle)
    assert torch.equal(ask(oracle, index), LABELS[index])
    assert torch.equal(answers_to_all(noise=0.0, noise_kind="pair", seed=5), LABELS)
    assert torch.equal(answers_to_all(transition=np.eye(CLASSES).tolist(), seed=5), LABELS)


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_each_answer_has_its_probability(kind: str, noise: float) -> None:
    check_frequencies(answers_to_all(noise=noise, noise_kind=kind), table_of(noise, kind))


def test_a_transition_has_its_own_probability_for_each_class_and_answer() -> None:
    check_frequencies(answers_to_all(transition=ROWS), ROWS)


def check_frequencies(answers: Tensor, table: list[list[float]]) -> None:
    for label, row in enumerate(table):
        counts = answers[label == LABELS].bincount(minlength=CLASSES).numpy()
        expected = counts.sum() * np.array(row)
        assert counts[expected == 0].sum() == 0
        if (expected > 0).sum() > 1:
            assert chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "table"),
    [
        ({"noise": 0.3}, table_of(0.3, "symmetric")),
        ({"noise": 0.3, "noise_kind": "pair"}, table_of(0.3, "pair")),
        ({"transition": ROWS}, ROWS),
    ],
)
def test_each_answer_is_the_one_of_the_definition(options: dict[str, Any], table: list[list[float]]) -> None:
    uniform = Draws(derive_key(4, "label noise"), torch.arange(len(LABELS))).uniform(0).double().tolist()
    expected = [
        answer_of_definition(label, table[label], number)
        for label, number in zip(LABELS.tolist(), uniform, strict=True)
    ]
    assert answers_to_all(seed=4, **options).tolist() == expected


def test_a_draw_at_the_end_of_a_share_belongs_to_the_next_class() -> None:
    drawn = float(Draws(derive_key(0, "label noise"), torch.tensor([7])).uniform(0))
    oracle = HeldBackLabels(torch.zeros(8, dtype=torch.int64), transition=[[drawn, 1 - drawn], [0.0, 1.0]])
    assert ask(oracle, torch.tensor([7])).item() == answer_of_definition(0, [drawn, 1 - drawn], drawn) == 1


def test_wrong_answers_fall_on_samples_independently() -> None:
    wrong = (answers_to_all(noise=0.3) != LABELS).double()
    neighbours = (wrong[1:] * wrong[:-1]).sum().item()  # with probability 0.09 each
    low, high = binom.ppf([1e-4, 1 - 1e-4], len(LABELS) - 1, 0.09)
    assert low * 0.98 < neighbours < high * 1.02  # pairs share samples, which widens the law a little


@settings(max_examples=30, deadline=None)
@given(index=st.lists(st.integers(0, 19_999), min_size=1, max_size=50, unique=True), number=st.integers(-1, 9))
def test_a_sample_has_one_answer_whenever_and_beside_whatever_it_is_asked(index: list[int], number: int) -> None:
    """Whole pool against a few, in any order, in any round, by a new oracle: a resumed run's."""
    oracle = HeldBackLabels(LABELS, num_classes=CLASSES, noise=0.4, seed=1)
    request = LabelRequest(number, torch.tensor(index), tuple(map(str, index)), score=torch.zeros(len(index)))
    assert torch.equal(oracle.answer(request).label, answers_to_all(noise=0.4, seed=1)[index])


def test_the_seed_decides_who_is_mislabelled_and_asking_moves_no_generator() -> None:
    before = torch.get_rng_state()
    first, other = answers_to_all(noise=0.4, seed=1), answers_to_all(noise=0.4, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    both = ((first != LABELS) & (other != LABELS)).double().mean()
    assert both == pytest.approx(0.16, abs=0.015)


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_what_was_wrong_stays_wrong_where_the_noise_is_larger(kind: str) -> None:
    less, more = (answers_to_all(noise=noise, noise_kind=kind) != LABELS for noise in (0.2, 0.5))
    assert (less & ~more).sum() == 0
    assert less.sum() < more.sum()


def test_rows_that_fall_short_of_one_by_rounding_never_give_an_answer_of_probability_zero() -> None:
    """Of two million draws a few lie above the sum of the row, which misses 1 by what is allowed."""
    labels, index = torch.zeros(2_000_000, dtype=torch.int64), torch.arange(2_000_000)
    row = [0.5, 0.5 - 9e-7, 0.0]
    assert (Draws(derive_key(0, "label noise"), index).uniform(0).double() >= sum(row)).any()
    answers = HeldBackLabels(labels, transition=[row] * 3).answer(LabelRequest(0, index, ()))
    assert set(answers.label.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 1.1}, r"noise must be in \[0, 1\], the share of wrong answers; got 1.1"),
        ({"noise": -0.1}, r"noise must be in \[0, 1\], .*; got -0.1"),
        ({"noise": float("nan")}, r"noise must be in \[0, 1\], .*; got nan"),
        ({"noise": "much"}, r"noise must be in \[0, 1\], .*; got 'much'"),
        ({"noise": True}, r"noise must be in \[0, 1\], .*; got True"),
        ({"noise_kind": "paired"}, "noise_kind must be one of symmetric, pair; got 'paired'"),
        ({"noise": 0.1, "num_classes": None}, r"num_classes must be at least 2 .*\(noise=0.1\); got None"),
        ({"noise": 0.1, "num_classes": 1}, r"num_classes must be at least 2 .*; got 1"),
        ({"noise": 0.1, "num_classes": 4}, "num_classes must be above every label; got 4 classes and the label 4"),
        (
            {"noise": 0.1, "transition": ROWS},
            "transition already has the shares of wrong answers; set noise=0 .*, not 0.1",
        ),
        ({"transition": ROWS[:4]}, r"transition must be 5 rows of 5 numbers, .*; got the shape \(4, 5\)"),
        ({"transition": ROWS[:4], "num_classes": None}, r"transition must be C rows of C .*; got the shape \(4, 5\)"),
        ({"transition": 3}, r"transition must be 5 rows of 5 numbers, .*; got the shape \(\)"),
        ({"transition": [[1.0], [0.5, 0.5]]}, r"transition must be 5 rows of 5 numbers, one for each class \(expected"),
        ({"transition": [["a"] * 5] * 5}, r"transition must be 5 rows of 5 numbers, one for each class \("),
        (
            {"transition": [*ROWS[:4], [0.5, 0.0, 0.0, 0.0, 0.4]]},
            r"transition must have probabilities .*; row 4 is \[0.5, .*\], of sum 0.9",
        ),
        ({"transition": [[1.5, -0.5, 0, 0, 0], *ROWS[1:]]}, "transition must have probabilities .*; row 0 is"),
        ({"transition": [*ROWS[:2], [float("nan")] * 5, *ROWS[3:]]}, "transition .*; row 2 is .*, of sum nan"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_their_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeldBackLabels(LABELS, **{"num_classes": CLASSES, **options})


def test_a_transition_says_how_many_classes_there_are() -> None:
    with pytest.raises(ValueError, match="num_classes must be above every label; got 2 classes and the label 4"):
        HeldBackLabels(LABELS, transition=[[0.5, 0.5], [0.0, 1.0]])
