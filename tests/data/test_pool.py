from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from assl_lightning.data.pool import EXCLUDED, HELD_OUT, UNLABELLED, Answers, Corrections, Pool, unused


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_a_new_pool_knows_no_label() -> None:
    pool = Pool(4, 3)
    assert pool.labelled.tolist() == []
    assert pool.unlabelled.tolist() == [0, 1, 2, 3]
    assert pool.labels.tolist() == [-1] * 4
    assert pool.sample_ids == ("0", "1", "2", "3")


def test_labelled_unlabelled_and_excluded_part_the_pool() -> None:
    pool = Pool(5, 3, ["a", "b", "c", "d", "e"])
    pool.label(ints(3, 1), ints(2, 0), 0)
    pool.exclude(ints(4))
    pool.label(ints(0), ints(1), 1)
    assert pool.labelled.tolist() == [0, 1, 3]
    assert pool.unlabelled.tolist() == [2]
    assert pool.labelled_in_round.tolist() == [1, 0, UNLABELLED, 0, EXCLUDED]
    assert pool.labels.tolist() == [1, 0, -1, 2, -1]


def test_labelling_an_index_twice_names_it() -> None:
    pool = Pool(5, 3, ["a", "b", "c", "d", "e"])
    pool.label(ints(3), ints(2), 0)
    with pytest.raises(ValueError, match=r"sample 3 \(d\) is labelled since round 0; it cannot be labelled again"):
        pool.label(ints(1, 3), ints(0, 0), 1)
    with pytest.raises(ValueError, match="sample 2 was named twice in one request"):
        pool.label(ints(2, 1, 2), ints(0, 0, 0), 1)
    pool.exclude(ints(4))
    with pytest.raises(ValueError, match=r"sample 4 \(e\) is excluded"):
        pool.label(ints(4), ints(0), 1)
    assert pool.labelled.tolist() == [3]


def test_a_wrong_label_or_index_changes_nothing() -> None:
    pool = Pool(5, 3)
    with pytest.raises(ValueError, match="sample 2 was given the label 3; labels are 0 … 2"):
        pool.label(ints(1, 2), ints(0, 3), 0)
    with pytest.raises(IndexError, match="sample 5 lies outside the pool's 0 … 4"):
        pool.label(ints(1, 5), ints(0, 0), 0)
    with pytest.raises(IndexError, match="sample -1"):
        pool.label(ints(-1), ints(0), 0)
    with pytest.raises(ValueError, match="2 samples need 2 labels"):
        pool.label(ints(1, 2), ints(0), 0)
    with pytest.raises(ValueError, match="index must be int64"):
        pool.label(torch.tensor([True, False, False, False, False]), ints(0), 0)
    with pytest.raises(ValueError, match="labelled for a round ≥ 0; got -1"):
        pool.label(ints(1), ints(0), -1)
    assert pool.labelled.tolist() == []


def test_names_must_be_distinct_and_enough() -> None:
    with pytest.raises(ValueError, match="3 distinct names, one for each sample; got 3, 2 of them distinct"):
        Pool(3, 2, ["a", "a", "b"])
    with pytest.raises(ValueError, match="at least one sample and one class"):
        Pool(0, 2)


def test_a_state_is_of_the_names_that_it_was_saved_for() -> None:
    pool = Pool(3, 2, ["a", "b", "c"])
    pool.label(ints(1), ints(1), 0)
    state = pool.state_dict()
    Pool(3, 2, ["a", "b", "c"]).load_state_dict(state)
    for names in (["a", "c", "b"], ["a", "b", "d"], ["a", "bc", ""]):
        other = Pool(3, 2, names)
        with pytest.raises(ValueError, match="of 3 samples with other names than this pool's, or in another order"):
            other.load_state_dict(state)
        assert other.labelled.tolist() == []
    before_there_were_digests = {name: state[name] for name in ("labelled_in_round", "labels")}
    other.load_state_dict(before_there_were_digests)
    assert other.labelled.tolist() == [1]


def test_a_state_comes_back_and_another_pools_state_is_refused() -> None:
    pool, again = Pool(4, 3), Pool(4, 3)
    pool.label(ints(2), ints(1), 0)
    state = pool.state_dict()
    again.load_state_dict(state)
    pool.label(ints(0), ints(1), 1)
    assert again.labelled.tolist() == [2]
    assert state["labels"].tolist() == [-1, -1, 1, -1]
    with pytest.raises(ValueError, match=r"this pool has 5 samples, but the saved labelled_in_round has shape \(4,\)"):
        Pool(5, 3).load_state_dict(state)


# --- the answers to a request ----------------------------------------------------------------------------------------


def test_answers_label_or_exclude_what_was_asked_for() -> None:
    pool = Pool(6, 3)
    pool.apply(Answers(ints(3, 1), ints(2, 0), excluded=ints(4)), ints(1, 3, 4, 5), 2)
    assert pool.labelled_in_round.tolist() == [UNLABELLED, 2, UNLABELLED, 2, EXCLUDED, UNLABELLED]
    assert pool.labels.tolist() == [-1, 0, -1, 2, -1, -1]
    assert pool.asked_in_round.tolist() == [-1, 2, -1, 2, 2, 2]


def test_what_is_held_out_is_for_the_test_alone() -> None:
    pool = Pool(6, 3, ["a", "b", "c", "d", "e", "f"])
    answers = Answers(ints(1, 0), ints(2, 1), excluded=ints(5))
    pool.apply(answers, ints(1, 4, 5, 0), 0, held_out=ints(1, 4, 5))
    assert (pool.held_out.tolist(), pool.labelled.tolist(), pool.unlabelled.tolist()) == ([1], [0], [2, 3])
    assert pool.labels.tolist() == [1, 2, -1, -1, -1, -1]
    with pytest.raises(ValueError, match=r"sample 4 \(e\) is held out for the test; it cannot be labelled again"):
        pool.label(ints(4), ints(0), 0)
    pool.apply(Answers(ints(), ints(), earlier=Corrections(ints(1, 4, 5), ints(-2, 0, 1))), ints(), 1)
    assert (pool.held_out.tolist(), pool.labelled.tolist(), pool.excluded.tolist()) == ([4, 5], [0], [])


def test_corrections_are_what_a_sample_is_from_then_on() -> None:
    pool = Pool(7, 3)
    pool.apply(Answers(ints(0, 1, 2, 3), ints(0, 0, 0, 0), excluded=ints(5)), ints(0, 1, 2, 3, 4, 5), 1)
    #                     as before  corrected  taken back  bad  answered late  not bad after all
    earlier = Corrections(ints(0, 1, 2, 3, 4, 5), ints(0, 2, -1, -2, 1, 2))
    pool.apply(Answers(ints(), ints(), earlier=earlier), ints(), 3)
    assert pool.labelled_in_round.tolist() == [1, 1, UNLABELLED, EXCLUDED, 3, 3, UNLABELLED]
    assert pool.labels.tolist() == [0, 2, -1, -1, 1, 2, -1]


def test_images_that_are_gone_leave_the_run_labelled_or_not() -> None:
    pool = Pool(5, 3)
    pool.apply(Answers(ints(0, 1, 4), ints(2, 1, 0)), ints(0, 1, 2, 4), 0, held_out=ints(4), gone=ints(1, 3, 4))
    assert (pool.labelled.tolist(), pool.unlabelled.tolist(), pool.excluded.tolist()) == ([0], [2], [1, 3])
    assert pool.labelled_in_round[4] == HELD_OUT  # if it comes back, it is for the test alone
    assert pool.labels.tolist() == [2, -1, -1, -1, -1]


NOTHING = ints()


@pytest.mark.parametrize(
    ("answers", "requested", "keywords", "message"),
    [
        (Answers(ints(0, 0), ints(1, 1)), ints(0, 1), {}, "sample 0 was named twice"),
        (Answers(ints(0), ints(1), excluded=ints(0)), ints(0, 1), {}, "sample 0 was named twice"),
        (Answers(ints(0), ints(3)), ints(0), {}, "sample 0 was given the label 3"),
        (Answers(ints(0), ints(-1)), ints(0), {}, "sample 0 was given the label -1"),
        (Answers(ints(0, 1), ints(0)), ints(0, 1), {}, "2 samples need 2 labels"),
        (
            Answers(ints(0, 2), ints(0, 0)),
            ints(0, 1),
            {},
            "the oracle answered for sample 2, which was not asked for; answer only the 2 samples of the request",
        ),
        (Answers(ints(0), ints(0), excluded=ints(3)), ints(0, 1), {}, "answered for sample 3, which was not asked for"),
        (Answers(NOTHING, NOTHING), ints(7), {}, "sample 7 lies outside"),
        (Answers(NOTHING, NOTHING), ints(1, 1), {}, "sample 1 was named twice"),
        (Answers(NOTHING, NOTHING), ints(1), {"held_out": ints(2)}, "held_out must be among the requested samples"),
        (Answers(NOTHING, NOTHING), ints(1), {"gone": ints(-1)}, "sample -1 lies outside"),
        (
            Answers(NOTHING, NOTHING, earlier=Corrections(ints(3), ints(-3))),
            NOTHING,
            {},
            "sample 3 was given the label -3",
        ),
        (
            Answers(NOTHING, NOTHING, earlier=Corrections(ints(3, 3), ints(1, 2))),
            NOTHING,
            {},
            "sample 3 was named twice",
        ),
        (Answers(NOTHING, NOTHING), NOTHING, {"round_number": -1}, "labelled for a round ≥ 0; got -1"),
    ],
)
def test_wrong_answers_change_nothing(answers: Answers, requested: Tensor, keywords: Any, message: str) -> None:
    pool = Pool(7, 3)
    pool.apply(Answers(ints(4, 5), ints(0, 1)), ints(4, 5), 0, held_out=ints(5))
    before = pool.state_dict()
    with pytest.raises((ValueError, IndexError), match=message):
        pool.apply(answers, requested, **{"round_number": 3, **keywords})
    torch.testing.assert_close(pool.state_dict(), before)


@dataclass
class Sample:
    """One sample, told as a story: the oracle of `Pool.apply`."""

    since: int = UNLABELLED
    label: int = -1
    asked: int = -1

    def hear(self, said: int, number: int) -> None:
        self.label = max(said, -1)
        if self.since != HELD_OUT:
            is_new = self.since < 0
            self.since = said if said < 0 else number if is_new else self.since


N, C = 8, 3
INDICES = st.lists(st.integers(0, N - 1), unique=True)
SAID = st.integers(EXCLUDED, C - 1)


@given(
    rounds=st.lists(st.tuples(st.dictionaries(st.integers(0, N - 1), SAID), *[INDICES] * 2), max_size=6), data=st.data()
)
def test_whatever_is_answered_corrected_excluded_and_gone_the_pool_is_what_was_said_last(
    rounds: list[tuple[dict[int, int], list[int], list[int]]], data: st.DataObject
) -> None:
    pool, samples = Pool(N, C), [Sample() for _ in range(N)]
    held_out: list[int] = []
    for number, (corrections, gone, wanted) in enumerate(rounds):
        requested = data.draw(st.permutations(wanted))
        said = {index: data.draw(SAID) for index in requested}
        if not number:
            held_out = requested[: data.draw(st.integers(0, len(requested)))]
        labelled = [index for index in requested if said[index] >= 0]
        answers = Answers(
            ints(*labelled),
            ints(*(said[index] for index in labelled)),
            excluded=ints(*(index for index in requested if said[index] == EXCLUDED)),
            earlier=Corrections(ints(*corrections), ints(*corrections.values())),
        )
        apart = {"held_out": ints(*held_out)} if not number else {}
        pool.apply(answers, ints(*requested), number, gone=ints(*gone), **apart)

        for index, sample in enumerate(samples):
            if index in held_out:
                sample.since = HELD_OUT
            if index in said:
                sample.asked = number
                sample.hear(said[index], number)
            if index in corrections:
                sample.hear(corrections[index], number)
            if index in gone:
                sample.hear(EXCLUDED, number)

        assert pool.labelled_in_round.tolist() == [sample.since for sample in samples]
        assert pool.labels.tolist() == [sample.label for sample in samples]
        assert pool.asked_in_round.tolist() == [sample.asked for sample in samples]
        Pool(N, C).load_state_dict(pool.state_dict())  # refuses a label of what has none, and the other way round
        unusable = unused(pool.state_dict()).tolist()
        parts = [*pool.labelled.tolist(), *pool.unlabelled.tolist(), *pool.held_out.tolist(), *unusable]
        assert sorted(parts) == list(range(N))
        assert not set(held_out) & {*pool.labelled.tolist(), *pool.unlabelled.tolist(), *pool.excluded.tolist()}
        state = pool.state_dict()
        pool.apply(Answers(ints(), ints(), earlier=answers.earlier), ints(), number, gone=ints(*gone))
        torch.testing.assert_close(pool.state_dict(), state)  # what is said once more changes nothing


def test_a_pool_that_has_grown_keeps_what_was_known_of_the_first() -> None:
    pool = Pool(3, 2, ["c", "a", "b"])
    pool.apply(Answers(ints(1), ints(1)), ints(1, 2), 0)
    state = pool.state_dict()
    grown = Pool(5, 2, ["c", "a", "b", "0", "d"])
    with pytest.raises(ValueError, match=r"this pool has 5 samples, but the saved labelled_in_round has shape \(3,\)"):
        grown.load_state_dict(state)
    grown.load_state_dict(state, joining=3)
    assert grown.labelled_in_round.tolist() == [UNLABELLED, 0, UNLABELLED, UNLABELLED, UNLABELLED]
    assert grown.labels.tolist() == [-1, 1, -1, -1, -1]
    assert grown.asked_in_round.tolist() == [-1, 0, 0, -1, -1]
    known = Pool(5, 2, ["c", "a", "b", "0", "d"])
    known.label(torch.tensor([0, 4]), torch.tensor([1, 1]), 0)
    known.load_state_dict(state, joining=3)
    assert known.labelled_in_round.tolist() == [UNLABELLED, 0, UNLABELLED, UNLABELLED, 3]
    assert known.labels.tolist() == [-1, 1, -1, -1, 1]
    for names, message in (
        (["c", "b", "a", "0"], "of 3 samples with other names"),
        (["c", "a"], "this pool has 2 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            Pool(len(names), 2, names).load_state_dict(state, joining=3)
    uneven = state | {"labels": grown.labels}
    with pytest.raises(ValueError, match=r"has 3 samples, but the saved labels has shape \(5,\)"):
        Pool(5, 2, ["c", "a", "b", "0", "d"]).load_state_dict(uneven, joining=3)


def test_a_state_with_a_label_that_cannot_be_is_refused() -> None:
    pool = Pool(3, 2)
    for since, label, is_right in ((-3, 1, True), (-3, -1, True), (-3, 2, False), (-4, -1, False), (-2, 0, False)):
        state = pool.state_dict()
        state["labelled_in_round"][1], state["labels"][1] = since, label
        if is_right:
            Pool(3, 2).load_state_dict(state)
            continue
        with pytest.raises(ValueError, match=f"sample 1 is saved as labelled in round {since} with the label {label}"):
            Pool(3, 2).load_state_dict(state)
